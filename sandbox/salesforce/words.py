"""Words for seed data: names and texts of the kind that break careless readers."""

from __future__ import annotations

#: Names with accents, other scripts, quotes, commas, the texts NA and null, and blanks at the ends.
FIRST = (
    "James", "Mary", "José", "Zoë", "Łukasz", "Björn", "Søren", "Nguyễn", "Aiko", "伟", "秀英", "さくら", "민준",
    "محمد", "فاطمة", "דוד", "Дмитрий", "Ólafur", "Chloé", "Jean-Luc", "Siobhán", "Priya", "Arjun", "Ximena",
    "João", "Anaïs", "Thu Hà", "Emre", "Ebru", "Kwame", "Ngozi", "Li", "Wei", "Anna", "Peter", "Olga", "Fatima",
    "Hans", "Greta", "Ramón", "Inês", "Noah", "Emma", "Lucas", "Mia", "Léa", "Hugo", "Jürgen", "Aðalheiður", "NA",
)  # fmt: skip
LAST = (
    "Smith", "O'Brien", "García", "Müller", "Nowak", "Łęcki", "Jørgensen", "Şahin", "陈", "王", "佐藤", "김",
    "الهاشمي", "כהן", "Иванов", "Þórsdóttir", "D'Angelo", "van der Berg", "de la Cruz", "Nguyễn", "Patel", "Singh",
    "Tan", "Lim", "Ong", "Schmidt", "Weiß", "Dubois", "Lefèvre", "Rossi", "Ferrari", "Silva", "Conceição", "Kovács",
    "Novák", "Popescu", "Papadopoulos", "Yılmaz", "Haddad", "Okafor", "Mensah", "Cohen", "Levi", "Null", "NA",
    "null", "True", "Smith, Jr.", 'Lee "Bruce"', " Blank ",
)  # fmt: skip
COMPANY = (
    "Acme", "Globex", "Initech", "Umbrella", "Überbau", "Société Générale de Béton", "大林組", "삼성물산",
    "شركة المقاولون العرب", "Строймонтаж", "Ångström", "Quick & Dirty", "Smith, Jones & Co", 'The "Best" Builder',
    "Lendlease", "Skanska", "Bouygues", "Vinci", "Obayashi", "Gammon", "Kajima", "Penta-Ocean", "Woh Hup", "NA",
)  # fmt: skip
SUFFIXES = ("Ltd", "GmbH", "S.A.", "Pte. Ltd.", "Inc.", "B.V.", "株式会社", "LLC", "AG", "Oy", "A/S", "S.p.A.")
CITIES = (
    "Singapore", "London", "Paris", "München", "Zürich", "São Paulo", "東京", "서울", "القاهرة", "Москва", "Kraków",
    "Malmö", "New York", "San Francisco", "Hồ Chí Minh", "Bengaluru", "Sydney", "Montréal", "Reykjavík", "İstanbul",
)  # fmt: skip
STATES = ("CA", "NY", "TX", "Île-de-France", "Bayern", "NSW", "ON", "Karnataka", "SP", "England")
COUNTRIES = (
    "Singapore", "United Kingdom", "France", "Germany", "Switzerland", "Brazil", "Japan", "South Korea", "Egypt",
    "Poland", "Sweden", "United States", "Viet Nam", "India", "Australia", "Canada", "Iceland", "Türkiye",
    "Côte d'Ivoire",
)  # fmt: skip
STREETS = (
    "Main Street", "Rue de l'Église", "Hauptstraße", "Orchard Road", "Avenida Paulista", "丸の内", "강남대로",
    'Unit 5, "The Works"', "Ulica Łódzka", "Via Roma",
)  # fmt: skip
TITLES = (
    "Project Manager", "Director, Operations", "Site Engineer", "VP \"Special\" Projects", "Geschäftsführer",
    "Directeur général", "施工管理", "Safety Officer", "Quantity Surveyor", "CEO", "N/A", "null",
)  # fmt: skip
DEPARTMENTS = ("Operations", "IT", "Finance", "HR", "Procurement", "R&D", "Bau", "Qualité", "None")
TEXTS = (
    "Called, left a message.", "Line one\nLine two\nLine three", 'He said "yes", then "no".', "Great fit 🚀👷🏽‍♀️",
    "NA", "null", "None", "N/A", "  leading and trailing  ", "Tab\there; semicolon; pipe | caret ^ backquote `",
    "Crème brûlée, naïve café", "東京で会議。次回は来週。", "اجتماع غدا في الموقع", "a,b,c\r\nd,e,f", "'single' quotes",
    "Ends with a quote\"", "\"Starts with a quote", "=SUM(A1:A9)", "<b>bold</b> & more", "100 % done \\ backslash",
)  # fmt: skip

PICKLISTS: dict[str, tuple[str, ...]] = {
    "Salutation": ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof."),
    "LeadSource": ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other"),
    "Industry": (
        "Construction", "Engineering", "Energy", "Government", "Healthcare", "Manufacturing", "Not For Profit",
        "Retail", "Transportation", "Utilities", "Other",
    ),
    "AccountType": ("Prospect", "Customer - Direct", "Customer - Channel", "Installation Partner", "Other"),
    "Rating": ("Hot", "Warm", "Cold"),
    "Ownership": ("Public", "Private", "Subsidiary", "Other"),
    "Geocode": ("Address", "NearAddress", "Block", "Street", "Zip", "City", "State", "Unknown"),
    "LeadStatus": ("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted"),
    "StageName": (
        "Prospecting", "Qualification", "Needs Analysis", "Value Proposition", "Proposal/Price Quote",
        "Negotiation/Review", "Closed Won", "Closed Lost",
    ),
    "OpportunityType": ("Existing Customer - Upgrade", "Existing Customer - Replacement", "New Customer"),
    "Forecast": ("Omitted", "Pipeline", "BestCase", "Forecast", "Closed"),
    "ForecastName": ("Omitted", "Pipeline", "Best Case", "Commit", "Closed"),
    "CaseStatus": ("New", "Working", "Escalated", "Closed"),
    "CaseType": ("Mechanical", "Electrical", "Electronic", "Structural", "Other"),
    "CaseReason": ("Installation", "Equipment Complexity", "Performance", "Breakdown", "Feedback", "Other"),
    "Origin": ("Phone", "Email", "Web"),
    "Priority": ("High", "Normal", "Low"),
    "TaskStatus": ("Not Started", "In Progress", "Completed", "Waiting on someone else", "Deferred"),
    "TaskSubject": ("Call", "Send Letter", "Send Quote", "Email", "Other"),
    "CallType": ("Internal", "Inbound", "Outbound"),
    "TaskSubtype": ("Task", "Email", "Call"),
    "CampaignType": ("Conference", "Webinar", "Trade Show", "Email", "Advertisement", "Other"),
    "CampaignStatus": ("Planned", "In Progress", "Completed", "Aborted"),
    "Interests": ("Safety", "Quality", "Permits", "Équipement", "Progress", "BIM & 3D"),
    "Locale": ("en_US", "en_GB", "fr_FR", "de_DE", "ja_JP", "ar_EG"),
    "TimeZone": ("Asia/Singapore", "Europe/Paris", "America/New_York", "Asia/Tokyo", "Australia/Sydney"),
    "UserType": ("Standard", "PowerPartner", "CsnOnly", "AutomatedProcess"),
    "Product": ("Site Safety", "Site Quality", "Digital Forms", "Site Diary"),
}  # fmt: skip

#: Lists a seed expression can name with an at sign (@FIRST).
LISTS: dict[str, tuple[str, ...]] = {
    "FIRST": FIRST,
    "LAST": LAST,
    "COMPANY": COMPANY,
    "SUFFIXES": SUFFIXES,
    "CITIES": CITIES,
    "STATES": STATES,
    "COUNTRIES": COUNTRIES,
    "STREETS": STREETS,
    "TITLES": TITLES,
    "DEPARTMENTS": DEPARTMENTS,
    "TEXTS": TEXTS,
    **PICKLISTS,
}
