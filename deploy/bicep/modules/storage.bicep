// The landing zone. A hierarchical namespace, since a pool reads Parquet by managed identity only from ADLS Gen2.
param name string
param location string
param tags object
param coolAfterDays int
param deleteAfterDays int

var cool = coolAfterDays > 0 ? { tierToCool: { daysAfterModificationGreaterThan: coolAfterDays } } : {}
var remove = deleteAfterDays > 0 ? { delete: { daysAfterModificationGreaterThan: deleteAfterDays } } : {}

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    isHnsEnabled: true
    accessTier: 'Hot'
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    allowBlobPublicAccess: false
    // Identities only. A SAS signed with the account key and the key itself stop working too.
    allowSharedKeyAccess: false
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 14 }
    containerDeleteRetentionPolicy: { enabled: true, days: 14 }
  }
}

resource landing 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'landing'
}

// The workspace insists on a container of its own; nothing of ours goes there.
resource workspace 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'workspace'
}

var ages = coolAfterDays > 0 || deleteAfterDays > 0

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = if (ages) {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'landed-files'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: { blobTypes: ['blockBlob'], prefixMatch: ['landing/'] }
            actions: { baseBlob: union(cool, remove) }
          }
        }
      ]
    }
  }
}

output name string = account.name
output dataLakeUrl string = account.properties.primaryEndpoints.dfs
output workspaceContainer string = workspace.name
