// Secrets: what the container is given as variables. Nobody reads it by a policy of its own, only by roles.
param name string
param location string
param tags object
@secure()
param ledgerPassword string

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
  }
}

resource ledger 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'ledger-password'
  properties: { value: ledgerPassword }
}

output name string = vault.name
output uri string = vault.properties.vaultUri
