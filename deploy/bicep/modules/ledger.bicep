// The ledger: PostgreSQL, the smallest size. It holds runs and state, never the data.
param name string
param location string
param tags object
@secure()
param password string
param adminAddress string

var user = 'novade'

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2024-08-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'Standard_B1ms', tier: 'Burstable' }
  properties: {
    version: '16'
    administratorLogin: user
    administratorLoginPassword: password
    storage: { storageSizeGB: 32, autoGrow: 'Enabled' }
    backup: { backupRetentionDays: 14, geoRedundantBackup: 'Disabled' }
    highAvailability: { mode: 'Disabled' }
    authConfig: { activeDirectoryAuth: 'Disabled', passwordAuth: 'Enabled' }
  }
}

resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2024-08-01' = {
  parent: server
  name: 'novade'
  properties: { charset: 'UTF8', collation: 'en_US.utf8' }
}

// 0.0.0.0 stands for Azure's own addresses: container apps on the consumption plan have no fixed one.
resource fromAzure 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2024-08-01' = {
  parent: server
  name: 'azure'
  properties: { startIpAddress: '0.0.0.0', endIpAddress: '0.0.0.0' }
}

resource fromAdmin 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2024-08-01' = if (!empty(adminAddress)) {
  parent: server
  name: 'administrator'
  properties: { startIpAddress: adminAddress, endIpAddress: adminAddress }
}

output host string = server.properties.fullyQualifiedDomainName
output user string = user
