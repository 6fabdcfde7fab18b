// Every role assignment, each with its reason. Who deploys this needs Owner (or User Access Administrator beside
// Contributor) on the resource group. Rights inside the databases are no roles: `python -m jobs azure plan` has them.
param consolePrincipalId string
param workspacePrincipalId string
param adminObjectId string
param storageName string
param vaultName string
param registryName string
param workspaceName string
param deployPool bool

var storageBlobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var storageBlobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var keyVaultSecretsOfficer = 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource landing 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  name: '${storageName}/default/landing'
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: registryName
}

resource workspace 'Microsoft.Synapse/workspaces@2021-06-01' existing = {
  name: workspaceName
}

// Storage Blob Data Contributor for the console, on the landing container alone: it writes landed files and manifests,
// reads them back, and removes what a run that died left unregistered.
resource consoleLands 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: landing
  name: guid(landing.id, consolePrincipalId, storageBlobDataContributor)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
    principalId: consolePrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Storage Blob Data Contributor for the workspace's own identity, on the account: COPY INTO with IDENTITY = 'Managed
// Identity' reads the landed files with it (the vendor's page asks for Contributor; Reader is said to do elsewhere),
// and the workspace keeps its own files in the container next to them.
resource workspaceReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account
  name: guid(account.id, workspacePrincipalId, storageBlobDataContributor)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
    principalId: workspacePrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Storage Blob Data Reader for the administrators, on the landing container: serverless views are tried out with the
// identity of who asks, and a plain Owner may not read data.
resource adminReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: landing
  name: guid(landing.id, adminObjectId, storageBlobDataReader)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
    principalId: adminObjectId
  }
}

// Key Vault Secrets User for the console: the container app reads with it the secrets that it gives as variables.
resource consoleSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, consolePrincipalId, keyVaultSecretsUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
    principalId: consolePrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Key Vault Secrets Officer for the administrators: they put the Salesforce key there.
resource adminSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, adminObjectId, keyVaultSecretsOfficer)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsOfficer)
    principalId: adminObjectId
  }
}

// AcrPull for the console: the container app pulls its image with it, so the registry needs no password.
resource consolePulls 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: registry
  name: guid(registry.id, consolePrincipalId, acrPull)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPull)
    principalId: consolePrincipalId
    principalType: 'ServicePrincipal'
  }
}

// Novade pool operator, a role of our own: no built-in one pauses and resumes a pool without also deleting it.
resource poolOperator 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (deployPool) {
  name: guid(resourceGroup().id, 'novade pool operator')
  properties: {
    roleName: 'Novade pool operator (${workspaceName})'
    description: 'Sees, pauses and resumes dedicated SQL pools, nothing else.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.Synapse/workspaces/read'
          'Microsoft.Synapse/workspaces/sqlPools/read'
          'Microsoft.Synapse/workspaces/sqlPools/pause/action'
          'Microsoft.Synapse/workspaces/sqlPools/resume/action'
          'Microsoft.Synapse/workspaces/sqlPools/operationResults/read'
          'Microsoft.Synapse/workspaces/operationStatuses/read'
        ]
        notActions: []
      }
    ]
    assignableScopes: [resourceGroup().id]
  }
}

// For the console, on the workspace: load windows resume the pool and pause it again.
resource consoleWindows 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (deployPool) {
  scope: workspace
  name: guid(workspace.id, consolePrincipalId, 'novade pool operator')
  properties: {
    roleDefinitionId: poolOperator.id
    principalId: consolePrincipalId
    principalType: 'ServicePrincipal'
  }
}
