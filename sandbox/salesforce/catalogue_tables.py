"""Field tables of the default org; `catalogue` says how to read them and joins them to objects."""

from __future__ import annotations

ACCOUNT = """
MasterRecordId reference ro to=Account rel=MasterRecord := merged
Name string req := CASE $h % 50 WHEN 0 THEN ' ' ELSE '' END || pick($h, @COMPANY) || ' ' || pick($h // 97, @SUFFIXES) \
|| CASE WHEN $h % 4 = 0 THEN ' ' || ($h // 9 % 900) ELSE '' END
Type picklist(40) pick=AccountType := CASE WHEN pct($h, 80) THEN pick($h, @AccountType) END
ParentId reference to=Account rel=Parent := ref Account 10
"""
ACCOUNT_REST = """
Phone phone := CASE WHEN pct($h, 70) THEN phone($h) END
Fax phone := CASE WHEN pct($h, 5) THEN phone($h) END
AccountNumber string(40) := CASE WHEN pct($h, 60) THEN 'A-' || lpad(i::VARCHAR, 7, '0') END
Website url := CASE WHEN pct($h, 60) THEN concat('https://www.example', $h % 9999, '.com/?a=1&b=', $h % 7) END
PhotoUrl url ro extra=imageurl := '/services/images/photo/' || _id
Sic string(20) := CASE WHEN pct($h, 10) THEN lpad(($h % 9999)::VARCHAR, 4, '0') END
Industry picklist(40) pick=Industry := CASE WHEN pct($h, 75) THEN pick($h, @Industry) END
AnnualRevenue currency(18,0) := CASE WHEN pct($h, 60) THEN CASE WHEN $h % 3 = 0 THEN ($h % 90000000000)::DOUBLE \
ELSE ($h % 5000000)::DOUBLE END END
NumberOfEmployees int := CASE WHEN pct($h, 70) THEN ($h % 12000)::BIGINT END
Ownership picklist(40) pick=Ownership := CASE WHEN pct($h, 40) THEN pick($h, @Ownership) END
TickerSymbol string(20) := CASE WHEN pct($h, 5) THEN chr((65 + $h % 26)::INTEGER) || chr((65 + $h % 23)::INTEGER) END
Description textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
Rating picklist(40) pick=Rating := CASE WHEN pct($h, 30) THEN pick($h, @Rating) END
Site string(80) := CASE WHEN pct($h, 10) THEN pick($h, @CITIES) END
IsPartner boolean req := pct($h, 5)
IsCustomerPortal boolean req := false
AccountSource picklist pick=LeadSource := CASE WHEN pct($h, 40) THEN pick($h, @LeadSource) END
DunsNumber string(9) := CASE WHEN pct($h, 20) THEN lpad(($h % 999999999)::VARCHAR, 9, '0') END
Jigsaw string(20)
External_Key__c string(64) unique ext := 'EXT-' || lpad(i::VARCHAR, 9, '0')
Contract_Value__c currency(16,2) := CASE WHEN pct($h, 50) THEN ($h % 900000000) / 100.0 END
Discount__c percent(5,2) := CASE WHEN pct($h, 30) THEN ($h % 10000) / 100.0 END
Product_Lines__c multipicklist pick=Product := CASE WHEN pct($h, 40) THEN CASE $h % 3 WHEN 0 THEN 'Site Safety' \
WHEN 1 THEN 'Site Safety;Digital Forms' ELSE 'Site Quality;Site Diary;Digital Forms' END END
Renewal_Date__c date := CASE WHEN pct($h, 50) THEN (_created + to_days(($h % 900)::INTEGER))::DATE END
Office__Latitude__s double(18,15) of=Office__c := CASE WHEN pct(hash(i, 'office'), 30) \
THEN ($h % 1800000000) / 1e7 - 90 END
Office__Longitude__s double(18,15) of=Office__c := CASE WHEN pct(hash(i, 'office'), 30) \
THEN ($h % 3600000000) / 1e7 - 180 END
Office__c location
"""
CONTACT = """
MasterRecordId reference ro to=Contact rel=MasterRecord := merged
AccountId reference to=Account rel=Account := ref Account 92
LastName string(80) req of=Name extra=personname := pick($h, @LAST)
FirstName string(40) of=Name extra=personname := CASE WHEN pct($h, 95) THEN pick($h, @FIRST) END
Salutation picklist(40) of=Name extra=personname pick=Salutation := CASE WHEN pct($h, 40) THEN pick($h, @Salutation) END
Name string(121) req ro extra=personname := concat_ws(' ', FirstName, LastName)
"""
CONTACT_REST = """
Phone phone := CASE WHEN pct($h, 60) THEN phone($h) END
Fax phone := CASE WHEN pct($h, 3) THEN phone($h) END
MobilePhone phone := CASE WHEN pct($h, 50) THEN phone($h) END
HomePhone phone := CASE WHEN pct($h, 5) THEN phone($h) END
OtherPhone phone
AssistantPhone phone
ReportsToId reference to=Contact rel=ReportsTo := ref Contact 15
Email email := CASE WHEN pct($h, 90) THEN concat('user', i, '@example', $h % 500, '.com') END
Title string(128) := CASE WHEN pct($h, 70) THEN pick($h, @TITLES) END
Department string(80) := CASE WHEN pct($h, 40) THEN pick($h, @DEPARTMENTS) END
AssistantName string(40) := CASE WHEN pct($h, 4) THEN pick($h, @FIRST) END
LeadSource picklist pick=LeadSource := CASE WHEN pct($h, 50) THEN pick($h, @LeadSource) END
Birthdate date := CASE WHEN pct($h, 30) THEN DATE '1940-01-01' + ($h % 24000)::INTEGER END
Description textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
EmailBouncedReason string := CASE WHEN pct($h, 2) THEN '550 5.1.1 "No such user", rejected' END
EmailBouncedDate datetime := CASE WHEN pct($h, 2) THEN _modified END
IsEmailBounced boolean req ro := pct($h, 2)
PhotoUrl url ro extra=imageurl := '/services/images/photo/' || _id
Jigsaw string(20)
IndividualId reference to=Individual rel=Individual
HasOptedOutOfEmail boolean req := pct($h, 8)
DoNotCall boolean req := pct($h, 4)
External_Key__c string(64) unique ext := 'C-' || lpad(i::VARCHAR, 9, '0')
Score__c double(16,9) := CASE WHEN pct($h, 60) THEN ($h % 1000000007) / 998244353.0 END
Lifetime_Value__c currency(16,2) := CASE WHEN pct($h, 40) THEN CASE WHEN $h % 5 = 0 \
THEN ($h % 900000000000) / 100.0 ELSE ($h % 900000) / 100.0 END END
Engagement__c percent(5,2) := CASE WHEN pct($h, 40) THEN ($h % 10000) / 100.0 END
Badge_Number__c double(18,0) := CASE WHEN pct($h, 30) THEN (2147483648 + $h % 9007199254740)::DOUBLE END
Visits__c int := CASE WHEN pct($h, 70) THEN ($h % 40)::BIGINT END
Interests__c multipicklist pick=Interests := CASE WHEN pct($h, 50) THEN CASE $h % 4 WHEN 0 THEN 'Safety' \
WHEN 1 THEN 'Safety;Quality' WHEN 2 THEN 'Équipement;BIM & 3D' ELSE 'Quality;Permits;Progress' END END
Preferred_Time__c time := CASE WHEN pct($h, 20) THEN concat(lpad(($h % 24)::VARCHAR, 2, '0'), ':', \
lpad(($h // 24 % 60)::VARCHAR, 2, '0'), ':00.000Z') END
Last_Seen__c datetime := CASE WHEN pct($h, 40) THEN _modified + to_milliseconds(($h % 999)::BIGINT) END
Passport__c encryptedstring(175) := CASE WHEN pct($h, 10) THEN 'XXXXX' || lpad(($h % 9999)::VARCHAR, 4, '0') END
Notes__c textarea(32000) := CASE WHEN pct($h, 5) THEN pick($h, @TEXTS) END
Home__Latitude__s double(18,15) of=Home__c := CASE WHEN pct(hash(i, 'home'), 10) THEN ($h % 1800000000) / 1e7 - 90 END
Home__Longitude__s double(18,15) of=Home__c := CASE WHEN pct(hash(i, 'home'), 10) THEN ($h % 3600000000) / 1e7 - 180 END
Home__c location
Account_Industry__c string(1300) formula=Account.Industry
"""
LEAD = """
MasterRecordId reference ro to=Lead rel=MasterRecord := merged
LastName string(80) req of=Name extra=personname := pick($h, @LAST)
FirstName string(40) of=Name extra=personname := CASE WHEN pct($h, 95) THEN pick($h, @FIRST) END
Salutation picklist(40) of=Name extra=personname pick=Salutation := CASE WHEN pct($h, 40) THEN pick($h, @Salutation) END
Name string(121) req ro extra=personname := concat_ws(' ', FirstName, LastName)
Title string(128) := CASE WHEN pct($h, 60) THEN pick($h, @TITLES) END
Company string req := pick($h, @COMPANY) || ' ' || pick($h // 97, @SUFFIXES)
"""
LEAD_REST = """
Phone phone := CASE WHEN pct($h, 60) THEN phone($h) END
MobilePhone phone := CASE WHEN pct($h, 30) THEN phone($h) END
Fax phone
Email email := CASE WHEN pct($h, 90) THEN concat('lead', i, '@example', $h % 500, '.org') END
Website url := CASE WHEN pct($h, 30) THEN concat('http://lead', $h % 9999, '.example') END
PhotoUrl url ro extra=imageurl := '/services/images/photo/' || _id
Description textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
LeadSource picklist pick=LeadSource := CASE WHEN pct($h, 70) THEN pick($h, @LeadSource) END
Status picklist req pick=LeadStatus := pick($h, @LeadStatus)
Industry picklist pick=Industry := CASE WHEN pct($h, 50) THEN pick($h, @Industry) END
Rating picklist pick=Rating := CASE WHEN pct($h, 30) THEN pick($h, @Rating) END
AnnualRevenue currency(18,0) := CASE WHEN pct($h, 30) THEN ($h % 9000000000)::DOUBLE END
NumberOfEmployees int := CASE WHEN pct($h, 40) THEN ($h % 5000)::BIGINT END
IsConverted boolean req := pct(hash(i, 'conv'), 20)
ConvertedDate date ro := CASE WHEN pct(hash(i, 'conv'), 20) THEN _modified::DATE END
ConvertedAccountId reference ro to=Account rel=ConvertedAccount := ref Account 0
ConvertedContactId reference ro to=Contact rel=ConvertedContact := ref Contact 0
IsUnreadByOwner boolean req := pct($h, 30)
HasOptedOutOfEmail boolean req := pct($h, 8)
EmailBouncedReason string
EmailBouncedDate datetime
IndividualId reference to=Individual rel=Individual
Gclid__c string(255) := CASE WHEN pct($h, 20) THEN md5(i::VARCHAR) END
Lead_Score__c double(5,2) := CASE WHEN pct($h, 80) THEN ($h % 10000) / 100.0 END
"""
OPPORTUNITY = """
AccountId reference to=Account rel=Account := ref Account 96
IsPrivate boolean req := false
Name string(120) req := pick($h, @COMPANY) || ' – ' || pick($h // 31, @Product) || ' ' || ($h // 7 % 1000)
Description textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
StageName picklist req pick=StageName := pick(hash(i, 'stage'), @StageName)
Amount currency(18,2) := CASE WHEN pct($h, 92) THEN CASE WHEN $h % 11 = 0 THEN ($h % 99000000000) / 100.0 \
ELSE ($h % 50000000) / 100.0 END END
Probability percent(3,0) := ([10, 20, 30, 40, 60, 80, 100, 0])[1 + (hash(i, 'stage') % 8)::BIGINT]::DOUBLE
ExpectedRevenue currency(18,2) formula=Amount~*~Probability~/~100
TotalOpportunityQuantity double(18,2) := CASE WHEN pct($h, 30) THEN ($h % 10000) / 4.0 END
CloseDate date req := (_created + to_days((20 + $h % 200)::INTEGER))::DATE
Type picklist pick=OpportunityType := CASE WHEN pct($h, 60) THEN pick($h, @OpportunityType) END
NextStep string := CASE WHEN pct($h, 30) THEN pick($h, @TITLES) END
LeadSource picklist pick=LeadSource := CASE WHEN pct($h, 50) THEN pick($h, @LeadSource) END
IsClosed boolean req ro := hash(i, 'stage') % 8 >= 6
IsWon boolean req ro := hash(i, 'stage') % 8 = 6
ForecastCategory picklist(40) req ro pick=Forecast := ([ 'Pipeline', 'Pipeline', 'Pipeline', 'BestCase', 'BestCase', \
'Forecast', 'Closed', 'Omitted'])[1 + (hash(i, 'stage') % 8)::BIGINT]
ForecastCategoryName picklist pick=ForecastName := ([ 'Pipeline', 'Pipeline', 'Pipeline', 'Best Case', 'Best Case', \
'Commit', 'Closed', 'Omitted'])[1 + (hash(i, 'stage') % 8)::BIGINT]
CampaignId reference to=Campaign rel=Campaign := ref Campaign 20
HasOpportunityLineItem boolean req ro := pct($h, 40)
LastStageChangeDate datetime ro := CASE WHEN pct($h, 70) THEN _modified END
FiscalQuarter int ro := quarter(CloseDate)
FiscalYear int ro := year(CloseDate)
Fiscal string(6) ro := concat(year(CloseDate), ' ', quarter(CloseDate))
ContactId reference to=Contact rel=Contact := ref Contact 40
HasOpenActivity boolean req ro := pct($h, 20)
HasOverdueTask boolean req ro := pct($h, 10)
Margin__c percent(5,2) := CASE WHEN pct($h, 50) THEN ($h % 6000) / 100.0 - 10 END
Go_Live__c date := CASE WHEN pct($h, 30) THEN CloseDate + ($h % 120)::INTEGER END
"""
CASE = """
MasterRecordId reference ro to=Case rel=MasterRecord := merged
CaseNumber string(30) req ro := lpad((1000 + i)::VARCHAR, 8, '0')
ContactId reference to=Contact rel=Contact := ref Contact 85
AccountId reference to=Account rel=Account := ref Account 85
ParentId reference to=Case rel=Parent := ref Case 3
SuppliedName string(80) := CASE WHEN pct($h, 20) THEN pick($h, @FIRST) || ' ' || pick($h // 50, @LAST) END
SuppliedEmail email := CASE WHEN pct($h, 20) THEN concat('case', i, '@example.net') END
SuppliedPhone string(40)
SuppliedCompany string(80)
Type picklist(40) pick=CaseType := CASE WHEN pct($h, 70) THEN pick($h, @CaseType) END
Status picklist(40) pick=CaseStatus := pick(hash(i, 'status'), @CaseStatus)
Reason picklist(40) pick=CaseReason := CASE WHEN pct($h, 60) THEN pick($h, @CaseReason) END
Origin picklist(40) pick=Origin := pick($h, @Origin)
Subject string := pick($h, @TEXTS)
Priority picklist(40) pick=Priority := pick($h, @Priority)
Description textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
IsClosed boolean req ro := hash(i, 'status') % 4 = 3
ClosedDate datetime ro := CASE WHEN hash(i, 'status') % 4 = 3 THEN _modified END
IsEscalated boolean req := pct($h, 4)
ContactPhone phone ro formula=Contact.Phone
ContactEmail email ro formula=Contact.Email
Comments textarea(4000)
Hours_Open__c double(10,4) := CASE WHEN pct($h, 80) THEN ($h % 10000000) / 10000.0 END
"""
TASK = """
WhoId reference to=Contact,Lead rel=Who := ref Contact/Lead 80
WhatId reference to=Account,Opportunity,Case rel=What := ref Account/Opportunity/Case 60
AccountId reference ro to=Account rel=Account := ref Account 50
Subject combobox pick=TaskSubject := CASE WHEN $h % 5 = 0 THEN 'Email: ' || pick($h // 41, @TEXTS) \
ELSE pick($h // 41, @TaskSubject) END
ActivityDate date := CASE WHEN pct($h, 90) THEN (_created + to_days(($h % 30)::INTEGER))::DATE END
Status picklist(40) req pick=TaskStatus := pick(hash(i, 'status'), @TaskStatus)
Priority picklist(40) req pick=Priority := pick($h, @Priority)
IsHighPriority boolean req ro := pct($h, 20)
Description textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
IsClosed boolean req ro := hash(i, 'status') % 5 = 2
IsArchived boolean req ro := hash(i, 'status') % 5 = 2 AND _created < _epoch - to_days(400) AND pct($h, 25)
CallDurationInSeconds int := CASE WHEN pct($h, 20) THEN ($h % 3600)::BIGINT END
CallType picklist(40) pick=CallType := CASE WHEN pct($h, 20) THEN pick($h, @CallType) END
CallDisposition string
TaskSubtype picklist(40) ro pick=TaskSubtype := pick($h, @TaskSubtype)
CompletedDateTime datetime ro := CASE WHEN hash(i, 'status') % 5 = 2 THEN _modified END
IsReminderSet boolean req := pct($h, 10)
ReminderDateTime datetime := CASE WHEN pct($h, 10) THEN _created + to_hours(($h % 200)::BIGINT) END
IsRecurrence boolean req := false
"""
CAMPAIGN = """
Name string(80) req := concat(pick($h, @CampaignType), ' ', 2020 + $h % 7, ' #', i)
ParentId reference to=Campaign rel=Parent := ref Campaign 10
Type picklist(40) pick=CampaignType := pick($h, @CampaignType)
Status picklist(40) pick=CampaignStatus := pick($h, @CampaignStatus)
StartDate date := _created::DATE
EndDate date := (_created + to_days(($h % 90)::INTEGER))::DATE
ExpectedRevenue currency(18,0) := ($h % 1000000)::DOUBLE
BudgetedCost currency(18,0) := ($h % 100000)::DOUBLE
ActualCost currency(18,0) := CASE WHEN pct($h, 50) THEN ($h % 120000)::DOUBLE END
ExpectedResponse percent(10,2) := ($h % 10000) / 100.0
NumberSent double(18,0) := ($h % 4000000000)::DOUBLE
IsActive boolean req := pct($h, 50)
Description textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
NumberOfLeads int ro := ($h % 500)::BIGINT
NumberOfContacts int ro := ($h % 900)::BIGINT
AmountWonOpportunities currency(18,0) ro := ($h % 100000000)::DOUBLE
"""
USER = """
Username string(80) req := CASE WHEN i = 0 THEN 'integration@novade.sandbox' \
ELSE concat('user', i, '@novade.sandbox') END
LastName string(80) req of=Name extra=personname := pick($h, @LAST)
FirstName string(40) of=Name extra=personname := pick($h, @FIRST)
Name string(121) req ro extra=personname := concat_ws(' ', FirstName, LastName)
CompanyName string(80)
Division string(80)
Department string(80) := CASE WHEN pct($h, 60) THEN pick($h, @DEPARTMENTS) END
Title string(80) := CASE WHEN pct($h, 60) THEN pick($h, @TITLES) END
"""
USER_REST = """
Email email(128) req := concat('user', i, '@novade.sandbox')
Phone phone := CASE WHEN pct($h, 40) THEN phone($h) END
MobilePhone phone := CASE WHEN pct($h, 40) THEN phone($h) END
Alias string(8) req := 'u' || i
CommunityNickname string(40) req := 'user' || i
IsActive boolean req := i = 0 OR pct($h, 85)
TimeZoneSidKey picklist(40) req pick=TimeZone := pick($h, @TimeZone)
LocaleSidKey picklist(40) req pick=Locale := pick($h, @Locale)
EmailEncodingKey picklist(40) req := 'UTF-8'
LanguageLocaleKey picklist(40) req pick=Locale := 'en_US'
UserType picklist(40) ro pick=UserType := 'Standard'
EmployeeNumber string(20) := CASE WHEN pct($h, 50) THEN lpad(i::VARCHAR, 6, '0') END
ManagerId reference to=User rel=Manager := ref User 60
LastLoginDate datetime ro := CASE WHEN pct($h, 80) THEN _epoch - to_hours(($h % 900)::BIGINT) END
FederationIdentifier string(512)
AboutMe textarea(1000) := CASE WHEN pct($h, 10) THEN pick($h, @TEXTS) END
"""
ATTACHMENT = """
ParentId reference req to=Account,Contact,Case,Opportunity rel=Parent := ref Account/Case 100
Name string(255) req := concat('document ', i, '.txt')
IsPrivate boolean req := false
ContentType string(120) := 'text/plain'
BodyLength int ro := octet_length(encode('Attachment ' || i || ' – é'))
Body base64 req := base64(encode('Attachment ' || i || ' – é'))
Description textarea(500)
"""
#: One field of every type that exists, so that no type is ever met for the first time in production.
INSPECTION = """
Name string(80) req := 'INS-' || lpad(i::VARCHAR, 6, '0')
Account__c reference to=Account rel=Account__r := ref Account 90
Inspector__c reference to=Contact rel=Inspector__r := ref Contact 70
Parent_Record__c masterrecord ro
Status__c picklist pick=TaskStatus := pick($h, @TaskStatus)
Trades__c multipicklist pick=Interests := CASE WHEN pct($h, 50) THEN 'Safety;Permits' END
Location_Text__c combobox := pick($h, @CITIES)
Passed__c boolean req := pct($h, 80)
Defects__c int(9) := ($h % 30)::BIGINT
Sequence__c long := (5000000000 + i)::BIGINT
Reading__c double(18,9) := ($h % 1000000007) / 1e9 * CASE WHEN $h % 3 = 0 THEN 1e-5 ELSE 1 END
Cost__c currency(18,2) := ($h % 100000000) / 100.0
Completion__c percent(5,2) := ($h % 10001) / 100.0
Inspected_On__c date := _created::DATE
Inspected_At__c datetime := _created + to_milliseconds(($h % 1000)::BIGINT)
Start__c time := concat(lpad((6 + $h % 12)::VARCHAR, 2, '0'), ':15:30.', lpad(($h % 1000)::VARCHAR, 3, '0'), 'Z')
Contact_Email__c email := CASE WHEN pct($h, 50) THEN 'site@example.com' END
Contact_Phone__c phone := CASE WHEN pct($h, 50) THEN phone($h) END
Report__c url := concat('https://reports.example/', i)
Badge__c encryptedstring(20) := 'XXXX' || ($h % 100)
Findings__c textarea(32000) := long_text(i, $h, pick($h // 41, @TEXTS))
Payload__c json := CASE WHEN pct($h, 30) THEN concat('{"n": ', $h % 100, ', "t": "a,b"}') END
Any__c anyType := CASE $h % 3 WHEN 0 THEN ($h % 99)::VARCHAR WHEN 1 THEN 'text' END
Complex__c complexvalue
Category__c datacategorygroupreference := CASE WHEN pct($h, 20) THEN 'All' END
Site__Latitude__s double(18,15) of=Site__c := ($h % 1800000000) / 1e7 - 90
Site__Longitude__s double(18,15) of=Site__c := ($h % 3600000000) / 1e7 - 180
Site__c location
Days_Open__c double(18,0) formula=Defects__c~*~2
"""
UNREADABLE = """
Name string(80) req := 'S-' || i
Value__c string(255) := md5(i::VARCHAR)
"""
ORGANIZATION = """
Name string(80) req := 'Novade Sandbox'
Country string(80) := 'Singapore'
OrganizationType picklist(40) ro := 'Enterprise Edition'
IsSandbox boolean req ro := true
InstanceName string(5) ro := 'CS99'
TimeZoneSidKey picklist(40) := 'Asia/Singapore'
DefaultLocaleSidKey picklist(40) := 'en_SG'
"""
STATUS_VALUE = """
MasterLabel string := pick(i::UBIGINT, @TaskStatus)
ApiName string := pick(i::UBIGINT, @TaskStatus)
SortOrder int ro := i
IsDefault boolean req ro := i = 0
IsClosed boolean req ro := i = 2
"""
CHANGE_EVENT = """
ReplayId string ro
ChangeEventHeader complexvalue ro
Name string
"""
