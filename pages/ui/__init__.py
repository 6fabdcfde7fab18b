"""Drawing only: ``page`` opens a page · ``status`` states · ``tables`` tables and bars · ``words`` · ``markup``."""
