// The workspace, with its serverless pool (which costs nothing while nobody asks it) and, if wanted, a dedicated one.
param name string
param location string
param tags object
param dataLakeUrl string
param fileSystem string
param adminName string
param adminObjectId string
param adminAddress string
param deployPool bool
param poolSize string

resource workspace 'Microsoft.Synapse/workspaces@2021-06-01' = {
  name: name
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    defaultDataLakeStorage: { accountUrl: dataLakeUrl, filesystem: fileSystem }
    // No SQL passwords: people, the console and analysts come with Entra identities.
    azureADOnlyAuthentication: true
  }
}

resource administrator 'Microsoft.Synapse/workspaces/administrators@2021-06-01' = {
  parent: workspace
  name: 'activeDirectory'
  properties: {
    administratorType: 'ActiveDirectory'
    login: adminName
    sid: adminObjectId
    tenantId: tenant().tenantId
  }
}

// 0.0.0.0 stands for Azure's own addresses: container apps on the consumption plan have no fixed one.
resource fromAzure 'Microsoft.Synapse/workspaces/firewallRules@2021-06-01' = {
  parent: workspace
  name: 'AllowAllWindowsAzureIps'
  properties: { startIpAddress: '0.0.0.0', endIpAddress: '0.0.0.0' }
}

resource fromAdmin 'Microsoft.Synapse/workspaces/firewallRules@2021-06-01' = if (!empty(adminAddress)) {
  parent: workspace
  name: 'administrator'
  properties: { startIpAddress: adminAddress, endIpAddress: adminAddress }
}

// A pool cannot be created paused: it is online, and billed, from its creation until somebody pauses it.
resource pool 'Microsoft.Synapse/workspaces/sqlPools@2021-06-01' = if (deployPool) {
  parent: workspace
  name: 'novade'
  location: location
  tags: tags
  sku: { name: poolSize }
  properties: {
    createMode: 'Default'
    collation: 'SQL_Latin1_General_CP1_CI_AS'
    storageAccountType: 'LRS'
  }
}

output name string = workspace.name
output principalId string = workspace.identity.principalId
output sqlEndpoint string = workspace.properties.connectivityEndpoints.sql
output serverlessEndpoint string = workspace.properties.connectivityEndpoints.sqlOnDemand
output pool string = deployPool ? 'novade' : ''
