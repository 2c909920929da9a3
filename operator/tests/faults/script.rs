//! What people do during a run, step by step. After each step the operator has all the time it needs. To cover one thing
//! more, add it to a step or add a step.

/// One document of a step: applied, or deleted.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    Apply(&'static str),
    /// Kind and name.
    Delete(&'static str, &'static str),
}

use Deed::{Apply, Delete};

/// What a step is for, and what is done in it.
pub const SCRIPT: &[(&str, &[Deed])] = &[
    ("a platform comes up", &[Apply(STORES), Apply(PLATFORM)]),
    (
        "two tenants and what belongs to them come",
        &[Apply(ACME), Apply(BETA), Apply(VENDORS), Apply(STRIPE_KEYS), Apply(STRIPE), Apply(ACME_LIMIT), Apply(LIMIT)],
    ),
    (
        "everything changes at once",
        &[
            Apply(ACME_MOVED),
            Apply(VENDORS_FEWER),
            Apply(STRIPE_KEYS_ROTATED),
            Apply(ACME_LIMIT_HIGHER),
            Apply(LIMIT_HIGHER),
        ],
    ),
    (
        "a younger tenant asks for a hostname that is taken, and the platform for another image",
        &[Apply(ZETA), Apply(NEWER)],
    ),
    ("a release is tried beside the one that serves, and takes over", &[Apply(NEWER_BESIDE), Apply(ACME_RENAMED)]),
    ("the one before comes back", &[Apply(UNDO)]),
    (
        "rights, money and limits go",
        &[Delete("RoleBinding", "vendors"), Delete("PaymentProvider", "stripe"), Delete("RateLimitPolicy", "acme")],
    ),
    ("a tenant goes with its data, and one without", &[Delete("Tenant", "beta"), Delete("Tenant", "acme")]),
    ("one comes back", &[Apply(ACME)]),
];

/// What the platform connects with, as it was but for a label: every Tenant is looked at.
pub const STORES_TOUCHED: &str = "
kind: Secret
metadata: {name: db, labels: {touched: once}}
stringData: {uri: 'postgres://tenantry@db/tenantry'}
";

const STORES: &str = "
kind: Secret
metadata: {name: db}
stringData: {uri: 'postgres://tenantry@db/tenantry'}
---
kind: Secret
metadata: {name: redis}
stringData: {uri: 'redis://redis'}
";

const PLATFORM: &str = "
kind: Platform
metadata: {name: main}
spec: {postgres: {external: {secretRef: {name: db}}}, redis: {external: {secretRef: {name: redis}}}}
";

const NEWER: &str = "
kind: Platform
metadata: {name: main}
spec:
  image: {repository: tenantry-api, tag: '2'}
  postgres: {external: {secretRef: {name: db}}}
  redis: {external: {secretRef: {name: redis}}}
";

/// Short enough that a step ends with the old colour scaled down.
const NEWER_BESIDE: &str = "
kind: Platform
metadata: {name: main}
spec:
  image: {repository: tenantry-api, tag: '3'}
  postgres: {external: {secretRef: {name: db}}}
  redis: {external: {secretRef: {name: redis}}}
  rollout: {strategy: BlueGreen, autoPromotionSeconds: 2, scaleDownDelaySeconds: 3}
";

/// A person's command, carried out once.
const UNDO: &str = "
kind: Platform
metadata: {name: main, annotations: {tenantry.dev/rollout: undo}}
spec:
  image: {repository: tenantry-api, tag: '3'}
  postgres: {external: {secretRef: {name: db}}}
  redis: {external: {secretRef: {name: redis}}}
  rollout: {strategy: BlueGreen, autoPromotionSeconds: 2, scaleDownDelaySeconds: 3}
";

const ACME: &str = "
kind: Tenant
metadata: {name: acme}
spec: {hostnames: [acme.example, pay.acme.example]}
";

const ACME_MOVED: &str = "
kind: Tenant
metadata: {name: acme}
spec: {hostnames: [acme.example, shop.acme.example], displayName: Acme}
";

const ACME_RENAMED: &str = "
kind: Tenant
metadata: {name: acme}
spec: {hostnames: [acme.example, shop.acme.example], displayName: Acme Shops}
";

pub const BETA: &str = "
kind: Tenant
metadata: {name: beta}
spec: {hostnames: [beta.example], deletionPolicy: Delete}
";

const ZETA: &str = "
kind: Tenant
metadata: {name: zeta}
spec: {hostnames: [acme.example, zeta.example]}
";

const VENDORS: &str = "
kind: RoleBinding
metadata: {name: vendors}
spec:
  tenantRef: {name: acme}
  roleRef: {name: VENDOR}
  subjects: [{kind: User, name: alice@acme.example}, {kind: User, name: bob@acme.example}]
";

const VENDORS_FEWER: &str = "
kind: RoleBinding
metadata: {name: vendors}
spec: {tenantRef: {name: acme}, roleRef: {name: VENDOR}, subjects: [{kind: User, name: alice@acme.example}]}
";

const STRIPE_KEYS: &str = "
kind: Secret
metadata: {name: acme-stripe}
stringData: {secret-key: sk_test_1, webhook: whsec_1}
";

const STRIPE_KEYS_ROTATED: &str = "
kind: Secret
metadata: {name: acme-stripe}
stringData: {secret-key: sk_test_2, webhook: whsec_2}
";

const STRIPE: &str = "
kind: PaymentProvider
metadata: {name: stripe}
spec:
  tenantRef: {name: acme}
  type: Stripe
  mode: Test
  default: true
  stripe: {secretKeySecretRef: {name: acme-stripe, key: secret-key}, webhookSigningSecretRefs: [{name: acme-stripe, key: webhook}]}
";

const ACME_LIMIT: &str = "
kind: RateLimitPolicy
metadata: {name: acme}
spec: {targetRef: {kind: Tenant, name: acme}, limits: {all: {rates: [{limit: 10, window: 1m}]}}}
";

const ACME_LIMIT_HIGHER: &str = "
kind: RateLimitPolicy
metadata: {name: acme}
spec: {targetRef: {kind: Tenant, name: acme}, limits: {all: {rates: [{limit: 20, window: 1m}]}}}
";

const LIMIT: &str = "
kind: RateLimitPolicy
metadata: {name: everybody}
spec: {targetRef: {kind: Platform, name: main}, defaults: {limits: {fair: {rates: [{limit: 100, window: 1m}]}}}}
";

const LIMIT_HIGHER: &str = "
kind: RateLimitPolicy
metadata: {name: everybody}
spec: {targetRef: {kind: Platform, name: main}, defaults: {limits: {fair: {rates: [{limit: 200, window: 1m}]}}}}
";
