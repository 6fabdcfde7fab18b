// The container: one replica, always on, since schedules fire while nobody looks.
param name string
param location string
param tags object
param role string
param image string
param registryServer string
param identityId string
param identityClientId string
param vaultUri string
param secretNames array
param ledgerHost string
param ledgerUser string

var given = [for secret in secretNames: {
  name: secret
  keyVaultUrl: '${vaultUri}secrets/${secret}'
  identity: identityId
}]
var variables = [for secret in secretNames: {
  name: 'NOVADE_${toUpper(replace(secret, '-', '_'))}'
  secretRef: secret
}]
var serves = role == 'console'

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: name
  location: location
  tags: tags
  properties: { sku: { name: 'PerGB2018' }, retentionInDays: 30 }
}

resource apps 'Microsoft.App/managedEnvironments@2024-03-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    appLogsConfiguration: {
      destination: 'log-analytics'
      logAnalyticsConfiguration: {
        customerId: logs.properties.customerId
        sharedKey: logs.listKeys().primarySharedKey
      }
    }
  }
}

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    managedEnvironmentId: apps.id
    configuration: {
      activeRevisionsMode: 'Single'
      registries: [{ server: registryServer, identity: identityId }]
      secrets: concat(given, [
        { name: 'ledger-password', keyVaultUrl: '${vaultUri}secrets/ledger-password', identity: identityId }
      ])
      // Pages stay on their replica: uploads and media go over plain HTTP beside the socket.
      ingress: serves
        ? {
            external: true
            targetPort: 8501
            transport: 'auto'
            allowInsecure: false
            stickySessions: { affinity: 'sticky' }
          }
        : null
    }
    template: {
      // A worker that is told to stop ends its runs in order; what had landed is kept.
      terminationGracePeriodSeconds: 60
      containers: [
        {
          name: role
          image: image
          command: serves ? ['streamlit', 'run', 'app.py'] : ['python', '-m', 'jobs', 'worker']
          resources: { cpu: json('1.0'), memory: '2Gi' }
          env: concat(variables, [
            { name: 'NOVADE_ENVIRONMENT', value: 'azure' }
            { name: 'NOVADE_LANDING_CLIENT_ID', value: identityClientId }
            // azure-identity takes the identity of this client id where none is named.
            { name: 'AZURE_CLIENT_ID', value: identityClientId }
            // The ledger's URL names no host and no user: libpq takes them from here. So no file holds the password.
            { name: 'PGHOST', value: ledgerHost }
            { name: 'PGUSER', value: ledgerUser }
            { name: 'PGDATABASE', value: 'novade' }
            { name: 'PGSSLMODE', value: 'require' }
            { name: 'PGPASSWORD', secretRef: 'ledger-password' }
            // Every address is where the ingress needs it; the console refuses that while there is no login.
            { name: 'STREAMLIT_SERVER_ADDRESS', value: serves ? '0.0.0.0' : '127.0.0.1' }
          ])
          probes: serves
            ? [
                { type: 'Liveness', httpGet: { path: '/healthz', port: 8501 }, initialDelaySeconds: 20 }
                { type: 'Readiness', httpGet: { path: '/healthz', port: 8501 }, periodSeconds: 10 }
              ]
            : []
        }
      ]
      // One at a time. Several workers share a queue safely, but one is enough and cheaper.
      scale: { minReplicas: 1, maxReplicas: 1 }
    }
  }
}

output name string = app.name
