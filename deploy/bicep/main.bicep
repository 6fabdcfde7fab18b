// Everything that Novade needs in one resource group. docs/azure.md goes through it step by step, each grant with its
// reason. Deploy twice: first without an image (deployConsole = false), then, when the registry holds the image and
// the vault holds the secrets, with it.
targetScope = 'resourceGroup'

@description('Begins every name. A lower-case letter, then such letters and digits: some names allow nothing else.')
@minLength(3)
@maxLength(10)
param prefix string

@description('Region of everything.')
param location string = resourceGroup().location

@description('Name of the Entra user or group that administers the workspace (it runs `python -m jobs azure apply`).')
param adminName string

@description('Object id of that user or group.')
param adminObjectId string

@description('Address that may reach workspace and ledger from outside Azure, e.g. the office. Empty: none.')
param adminAddress string = ''

@description('A dedicated pool costs money from the minute it is created, and it is created online: pause it at once.')
param deployPool bool = false

@description('Size of the pool. DW100c is the smallest.')
@allowed(['DW100c', 'DW200c', 'DW300c', 'DW400c', 'DW500c', 'DW1000c'])
param poolSize string = 'DW100c'

@description('Password of the ledger database. Kept in the vault, given to the container as a secret.')
@secure()
param ledgerPassword string

@description('False until the image is pushed and the secrets are set.')
param deployConsole bool = false

@description('Image in the registry, e.g. novade:1.')
param image string = 'novade:1'

@description('worker: syncs, no pages, no address. console: serving others needs a login, which is not built yet.')
@allowed(['worker', 'console'])
param role string = 'worker'

// salesforce-consumer-key becomes the variable NOVADE_SALESFORCE_CONSUMER_KEY.
@description('Secrets of the vault that the container gets as variables.')
param secretNames array = ['salesforce-username', 'salesforce-consumer-key', 'salesforce-private-key']

@description('Days after which landed files go to the cool tier. 0: never.')
@minValue(0)
param coolAfterDays int = 60

// What is deleted cannot be loaded again, and views over it fail.
@description('Days after which landed files are deleted. 0: never.')
@minValue(0)
param deleteAfterDays int = 0

var suffix = uniqueString(resourceGroup().id, prefix)
var tags = { product: 'novade' }

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: { name: '${prefix}-console', location: location, tags: tags }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: '${prefix}${take(suffix, 12)}'
    location: location
    tags: tags
    coolAfterDays: coolAfterDays
    deleteAfterDays: deleteAfterDays
  }
}

module synapse 'modules/synapse.bicep' = {
  name: 'synapse'
  params: {
    name: '${prefix}-${take(suffix, 8)}'
    location: location
    tags: tags
    dataLakeUrl: storage.outputs.dataLakeUrl
    fileSystem: storage.outputs.workspaceContainer
    adminName: adminName
    adminObjectId: adminObjectId
    adminAddress: adminAddress
    deployPool: deployPool
    poolSize: poolSize
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  params: {
    name: '${prefix}-${take(suffix, 8)}'
    location: location
    tags: tags
    ledgerPassword: ledgerPassword
  }
}

module ledger 'modules/ledger.bicep' = {
  name: 'ledger'
  params: {
    name: '${prefix}-${take(suffix, 8)}'
    location: location
    tags: tags
    password: ledgerPassword
    adminAddress: adminAddress
  }
}

module registry 'modules/registry.bicep' = {
  name: 'registry'
  params: { name: '${prefix}${take(suffix, 12)}', location: location, tags: tags }
}

module grants 'modules/grants.bicep' = {
  name: 'grants'
  params: {
    consolePrincipalId: identity.outputs.principalId
    workspacePrincipalId: synapse.outputs.principalId
    adminObjectId: adminObjectId
    storageName: storage.outputs.name
    vaultName: vault.outputs.name
    registryName: registry.outputs.name
    workspaceName: synapse.outputs.name
    deployPool: deployPool
  }
}

module console 'modules/console.bicep' = if (deployConsole) {
  name: 'console'
  params: {
    name: '${prefix}-${role}'
    location: location
    tags: tags
    role: role
    image: '${registry.outputs.server}/${image}'
    registryServer: registry.outputs.server
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    vaultUri: vault.outputs.uri
    secretNames: secretNames
    ledgerHost: ledger.outputs.host
    ledgerUser: ledger.outputs.user
  }
  // Without its grants the app cannot pull its image or read its secrets, and its first revision fails.
  dependsOn: [grants]
}

output storageAccount string = storage.outputs.name
output workspace string = synapse.outputs.name
output sqlEndpoint string = synapse.outputs.sqlEndpoint
output serverlessEndpoint string = synapse.outputs.serverlessEndpoint
output pool string = synapse.outputs.pool
output vault string = vault.outputs.name
output registry string = registry.outputs.server
output ledgerHost string = ledger.outputs.host
output consoleIdentity string = identity.outputs.name
output consoleClientId string = identity.outputs.clientId
