"""Words for seeded conversations: names and texts of the kind that break careless readers."""

from __future__ import annotations

NAMES = (
    "Anna Kowalska", "José Álvarez", "Nguyễn Thị Hà", "O'Brien, Siobhán", "山田 太郎", "محمد الهاشمي", "דוד כהן",
    "<b>Bold</b> Buyer", "<script>alert('name')</script>", "=cmd|' /C calc'!A0", "@SUM(1+1)*cmd", "+1 (555) 0100",
    "-2+3", "Zoë 👩🏽‍🚀 Rocket", "NULL", "NA", " Blank ", 'Lee "Bruce"', "Bobby'); DROP TABLE contacts;--", "Tab\tName",
    "Priya Singh", "Lucas Silva", "Emma Weiß", "Kwame Mensah", "Łukasz Łęcki", "N\u0000UL", "Line\nBreak",
)  # fmt: skip
AGENTS = ("Dana Reed", "Tomás Ruiz", "Ingrid Øverland", "Wei Chen", "Fatou Diop", "Marc <em>Agent</em>", "Yuki 佐藤")
COMPANIES = (
    "Globex", "Überbau GmbH", "大林組", "Smith, Jones & Co", 'The "Best" Builder', "Société de Béton",
    "=HYPERLINK(\"x\")",
    "Initech", "Строймонтаж", "Acme 🏗️", "Quick & Dirty Ltd", "Woh Hup",
)  # fmt: skip
TEXTS = (
    "Hi, how can I help you today?", "I would like to see a demo.", "Which plan has single sign-on?",
    "<p>Thanks!</p><br/>Here is <a href=\"https://example.com/?a=1&amp;b=2\">the link</a>.", "👍🏽", "ok",
    "Line one\nLine two\r\nLine three", 'She said "yes", then "no".', "東京から質問があります。",
    "مرحبا، هل يمكنكم المساعدة؟",
    "=cmd|' /C calc'!A0", "<img src=x onerror=alert(1)>", "NUL \u0000 inside", "  leading and trailing  ",
    "a,b;c|d\te^f`g", "My number is +49 30 901820, mail me at someone@example.com", "null", "{\"json\": [1, 2]}",
    "C:\\temp\\new\\file", "100 % 'sure'", "e\u0301 and é are two ways", "\u202eright to left override", "",
)  # fmt: skip
TAGS = (
    ("0960C5", "demo"),
    ("7695A5", "pricing"),
    ("C50909", "<b>urgent</b>"),
    ("09C57A", "サポート"),
    ("FFB400", "=1+1"),
)
STATUSES = ("open", "closed", "pending", "bulk_sent")
#: What `statusId` means in a query; bulk_sent has no number. Source: devdocs.drift.com, "Listing Conversations".
STATUS_IDS = {"1": "open", "2": "closed", "3": "pending"}
PAGES = ("https://novade.example/", "https://novade.example/pricing?plan=a&seats=10", "https://novade.example/демо")
ZONES = ("Asia/Singapore", "Europe/London", "America/New_York", "Asia/Kolkata")
CLASSIFICATIONS = ("Engaged", "Target", "Lead", "CQL", "Anonymous")
