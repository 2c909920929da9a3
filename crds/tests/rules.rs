//! Every CEL rule accepts what it should and refuses the rest with its sentence, without a cluster.

use serde_json::{Value, json};

use crate::kind::{Kind, all, payment_provider, platform, rate_limit_policy, role_binding, tenant};

#[test]
fn every_rule_has_a_sentence_and_a_test() {
    let tests = include_str!("rules.rs");
    for Kind { name, schema, .. } in all() {
        let mut rules = Vec::new();
        collect_rules(&schema, &mut rules);
        assert!(rules.len() >= 2, "{name} has rules");
        for rule in rules {
            let message = rule["message"].as_str().unwrap_or_else(|| panic!("{name}: {rule} has a message"));
            assert!(tests.contains(&format!("\"{message}\"")), "{name}: no test refuses with {message:?}");
        }
    }
}

fn collect_rules<'a>(schema: &'a Value, rules: &mut Vec<&'a Value>) {
    match schema {
        Value::Object(fields) => {
            rules
                .extend(fields.get("x-kubernetes-validations").into_iter().flat_map(|rules| rules.as_array().unwrap()));
            fields.values().for_each(|value| collect_rules(value, rules));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_rules(item, rules)),
        _ => {}
    }
}

#[test]
fn a_tenants_name_leaves_room_for_what_is_named_after_it() {
    const SENTENCE: &str = "metadata.name must be at most 50 characters long and have no dot, because Secrets and labels are named after it";
    tenant()
        .accepts_name(&"a".repeat(50))
        .accepts_name("1st-of-all")
        .refuses_name(&"a".repeat(51), SENTENCE)
        .refuses_name("acme.example", SENTENCE);
}

#[test]
fn a_platforms_name_can_be_a_services_name() {
    const SENTENCE: &str = "metadata.name must be at most 50 characters long, begin with a letter and have no dot, because Services are named after it";
    platform()
        .accepts_name("main-2")
        .refuses_name(&"a".repeat(51), SENTENCE)
        .refuses_name("2nd", SENTENCE)
        .refuses_name("main.eu", SENTENCE);
}

#[test]
fn a_password_is_not_sent_to_a_mail_server_in_the_clear() {
    const SENTENCE: &str = "smtp.tls None sends in the clear, and a password is not sent so: leave out secretRef, or use StartTls or Implicit";
    let smtp = |more: Value| {
        let mut smtp = json!({ "host": "smtp.example.com", "from": "Acme <no-reply@example.com>" });
        smtp.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "mail": { "smtp": smtp } })
    };
    platform()
        .accepts(smtp(json!({ "tls": "None" })))
        .accepts(smtp(json!({ "tls": "StartTls", "secretRef": { "name": "smtp" } })))
        .accepts(smtp(json!({ "tls": "Implicit", "secretRef": { "name": "smtp" } })))
        .accepts(smtp(json!({ "secretRef": { "name": "smtp" } })))
        .refuses(smtp(json!({ "tls": "None", "secretRef": { "name": "smtp" } })), SENTENCE);
}

#[test]
fn a_platform_with_managed_stores_has_room_for_their_names() {
    const SENTENCE: &str = "metadata.name must be at most 36 characters long where postgres or redis is managed, because StatefulSets and CronJobs are named after it";
    let (postgres, redis) = (json!({ "storage": { "size": "20Gi" } }), json!({}));
    platform().accepts_name(&"a".repeat(37));
    for (store, managed) in [("postgres", postgres), ("redis", redis)] {
        let kind = platform().with(json!({ store: { "external": null, "managed": managed } }));
        kind.accepts_name(&"a".repeat(36)).refuses_name(&"a".repeat(37), SENTENCE);
    }
}

#[test]
fn the_other_kinds_names_are_short() {
    const SENTENCE: &str = "metadata.name must be at most 50 characters long, because other names are made from it";
    for kind in [role_binding(), payment_provider(), rate_limit_policy()] {
        kind.accepts_name(&"a.b".repeat(16)).refuses_name(&"a".repeat(51), SENTENCE);
    }
}

#[test]
fn a_tenant_stays_with_its_platform() {
    const SENTENCE: &str =
        "platformRef is immutable once it is set: delete the Tenant and create it for the other Platform";
    tenant()
        .may_become(json!({ "plan": "pro" }))
        .may_not_become(json!({ "platformRef": { "name": "other" } }), SENTENCE)
        .may_not_become(json!({ "platformRef": null }), SENTENCE);
    tenant().with(json!({ "platformRef": null })).may_become(json!({ "platformRef": { "name": "main" } }));
}

#[test]
fn isolation_is_only_strengthened() {
    tenant().may_become(json!({ "isolation": { "database": "Database" } }));
    tenant()
        .with(json!({ "isolation": { "database": "Database" } }))
        .may_become(json!({ "plan": "pro" }))
        .may_not_become(
            json!({ "isolation": { "database": "RowLevelSecurity" } }),
            "isolation.database can be strengthened from RowLevelSecurity to Database, never weakened",
        );
}

#[test]
fn a_refresh_token_outlives_its_access_tokens() {
    tenant().accepts(json!({ "auth": { "accessTokenSeconds": 600, "refreshTokenSeconds": 601 } })).refuses(
        json!({ "auth": { "accessTokenSeconds": 600, "refreshTokenSeconds": 600 } }),
        "auth.refreshTokenSeconds must be greater than auth.accessTokenSeconds: a refresh token outlives the access tokens it is traded for",
    );
}

#[test]
fn a_shared_signing_secret_is_given_and_not_made() {
    tenant()
        .accepts(json!({ "auth": { "signing": { "algorithm": "HS256", "secretRef": { "name": "acme-jwt" } } } }))
        .accepts(json!({ "auth": { "signing": { "algorithm": "ES256" } } }))
        .refuses(
            json!({ "auth": { "signing": { "algorithm": "HS256" } } }),
            "auth.signing.secretRef is required with algorithm HS256: name the Secret that holds the shared secret",
        );
}

#[test]
fn a_role_binding_keeps_its_tenant_and_its_role() {
    role_binding()
        .may_become(json!({ "subjects": [{ "kind": "User", "name": "bob@acme.example" }] }))
        .may_not_become(
            json!({ "tenantRef": { "name": "other" } }),
            "tenantRef is immutable: delete the RoleBinding and create it for the other tenant",
        )
        .may_not_become(
            json!({ "roleRef": { "name": "AUDITOR" } }),
            "roleRef is immutable: delete the RoleBinding and create it with the other role",
        );
}

#[test]
fn a_role_is_built_in_or_has_rules() {
    const FORBIDDEN: &str = "rules cannot be given for a built-in role (ADMIN, SUPPORT, VENDOR, CUSTOMER, USER, GUEST): leave them out or choose another roleRef.name";
    const REQUIRED: &str = "rules are required unless roleRef.name is a built-in role (ADMIN, SUPPORT, VENDOR, CUSTOMER, USER, GUEST): say what the role may do";
    for (built_in, _) in contract::access::BUILT_IN_ROLES {
        for name in [built_in.to_string(), built_in.to_lowercase()] {
            role_binding()
                .accepts(json!({ "roleRef": { "name": name }, "rules": null }))
                .refuses(json!({ "roleRef": { "name": name } }), FORBIDDEN);
        }
    }
    role_binding().refuses(json!({ "rules": null }), REQUIRED).refuses(json!({ "rules": [] }), REQUIRED);
}

#[test]
fn a_provider_has_the_settings_of_its_type_and_no_others() {
    const STRIPE: &str = "stripe is required with type Stripe and cannot be given with another type";
    const CRYPTOMUS: &str = "cryptomus is required with type Cryptomus and cannot be given with another type";
    let cryptomus = json!({
        "merchantUuid": "8b03432e-385b-4670-8d06-064591096795",
        "paymentKeySecretRef": { "name": "acme-cryptomus", "key": "payment-key" },
    });
    payment_provider()
        .accepts(json!({ "type": "Cryptomus", "stripe": null, "cryptomus": cryptomus }))
        .refuses(json!({ "stripe": null }), STRIPE)
        .refuses(json!({ "cryptomus": cryptomus }), CRYPTOMUS);
    let as_cryptomus = payment_provider().with(json!({ "type": "Cryptomus", "stripe": null, "cryptomus": cryptomus }));
    as_cryptomus.refuses(json!({ "cryptomus": null }), CRYPTOMUS);
}

#[test]
fn money_goes_over_tls() {
    const SENTENCE: &str = "apiBaseUrl must begin with https:// unless mode is Test";
    payment_provider()
        .accepts(json!({ "mode": "Live", "apiBaseUrl": "https://api.stripe.com" }))
        .accepts(json!({ "mode": "Test", "apiBaseUrl": "http://127.0.0.1:12111" }))
        .refuses(json!({ "mode": "Live", "apiBaseUrl": "http://api.stripe.com" }), SENTENCE);
}

#[test]
fn a_provider_keeps_its_tenant_and_its_type() {
    let cryptomus = json!({
        "merchantUuid": "8b03432e-385b-4670-8d06-064591096795",
        "paymentKeySecretRef": { "name": "acme-cryptomus", "key": "payment-key" },
    });
    payment_provider()
        .may_become(json!({ "mode": "Live", "currencies": ["EUR"] }))
        .may_not_become(
            json!({ "tenantRef": { "name": "other" } }),
            "tenantRef is immutable: delete the PaymentProvider and create it for the other tenant",
        )
        .may_not_become(
            json!({ "type": "Cryptomus", "stripe": null, "cryptomus": cryptomus }),
            "type is immutable: payments that are under way belong to the provider that began them; create another PaymentProvider",
        );
}

#[test]
fn webhooks_come_from_address_ranges() {
    let from = |ranges: Value| {
        json!({ "type": "Cryptomus", "stripe": null, "cryptomus": {
            "merchantUuid": "8b03432e-385b-4670-8d06-064591096795",
            "paymentKeySecretRef": { "name": "acme-cryptomus", "key": "payment-key" },
            "allowedSourceCidrs": ranges,
        }})
    };
    payment_provider().accepts(from(json!([]))).accepts(from(json!(["10.0.0.0/8", "2001:db8::/32"]))).refuses(
        from(json!(["10.0.0.0/8", "91.227.144.54"])),
        "allowedSourceCidrs must be address ranges such as 91.227.144.54/32",
    );
}

#[test]
fn a_policy_declares_its_limits_in_one_way() {
    const SENTENCE: &str = "exactly one of limits, defaults and overrides must be given";
    let set = json!({ "limits": { "all": { "rates": [{ "limit": 1, "window": "1s" }] } } });
    rate_limit_policy()
        .accepts(json!({ "limits": null, "defaults": set }))
        .accepts(json!({ "limits": null, "overrides": set }))
        .refuses(json!({ "limits": null }), SENTENCE)
        .refuses(json!({ "defaults": set }), SENTENCE)
        .refuses(json!({ "limits": null, "defaults": set, "overrides": set }), SENTENCE);
}

#[test]
fn a_policy_keeps_its_target() {
    const SENTENCE: &str = "targetRef is immutable: delete the RateLimitPolicy and create it for the other target";
    rate_limit_policy()
        .may_become(json!({ "limits": { "payments": { "rates": [{ "limit": 20, "window": "1m" }] } } }))
        .may_not_become(json!({ "targetRef": { "name": "other" } }), SENTENCE)
        .may_not_become(json!({ "targetRef": { "kind": "Platform" } }), SENTENCE);
}

#[test]
fn a_limits_name_fits_into_a_header() {
    const SENTENCE: &str = "names of limits must be at most 63 characters long";
    let named = |length: usize| json!({ "a".repeat(length): { "rates": [{ "limit": 1, "window": "1s" }] } });
    rate_limit_policy().accepts(json!({ "limits": named(63) })).refuses(json!({ "limits": named(64) }), SENTENCE);
    for way in ["defaults", "overrides"] {
        rate_limit_policy()
            .accepts(json!({ "limits": null, way: { "limits": named(63) } }))
            .refuses(json!({ "limits": null, way: { "limits": named(64) } }), SENTENCE);
    }
}

/// The example's limits with one more, made of these fields.
fn one_more(limit: Value) -> Value {
    json!({ "limits": { "one-more": limit } })
}

#[test]
fn only_a_token_bucket_has_a_burst() {
    let limit =
        |algorithm: &str| json!({ "rates": [{ "limit": 5, "window": "1s" }], "algorithm": algorithm, "burst": 9 });
    rate_limit_policy()
        .accepts(one_more(limit("TokenBucket")))
        .refuses(one_more(limit("SlidingWindow")), "burst can only be given with algorithm TokenBucket")
        .refuses(one_more(limit("FixedWindow")), "burst can only be given with algorithm TokenBucket");
}

#[test]
fn a_request_costs_no_more_than_any_rate_allows() {
    let rates = json!([{ "limit": 5, "window": "1s" }, { "limit": 100, "window": "1m" }]);
    rate_limit_policy().accepts(one_more(json!({ "rates": rates, "cost": 5 }))).refuses(
        one_more(json!({ "rates": rates, "cost": 6 })),
        "cost must not be greater than the limit of any rate, or no request would ever pass",
    );
}

#[test]
fn a_window_lasts_from_a_second_to_a_month() {
    let window = |window: &str| one_more(json!({ "rates": [{ "limit": 5, "window": window }] }));
    for good in ["1s", "1m", "1h30m", "744h", "90s"] {
        rate_limit_policy().accepts(window(good));
    }
    for bad in ["0s", "500ms", "1s500ms", "745h", "1", "1d", "1x", ""] {
        rate_limit_policy().refuses(
            window(bad),
            "window must be between 1s and 744h in hours, minutes and seconds, such as 30s, 1m or 1h30m",
        );
    }
}

#[test]
fn an_image_is_named_by_tag_or_digest() {
    const SENTENCE: &str = "image needs exactly one of tag and digest";
    let digest = format!("sha256:{}", "0".repeat(64));
    platform()
        .accepts(json!({ "image": { "tag": null, "digest": digest } }))
        .refuses(json!({ "image": { "digest": digest } }), SENTENCE)
        .refuses(json!({ "image": { "tag": null } }), SENTENCE);
}

#[test]
fn autoscaling_has_a_range_and_a_target() {
    platform()
        .accepts(json!({ "autoscaling": { "maxReplicas": 2, "targetCPUUtilizationPercentage": 70 } }))
        .accepts(json!({ "autoscaling": { "minReplicas": 1, "maxReplicas": 9, "targetRequestsInFlightPerPod": 50 } }))
        .accepts(json!({ "autoscaling": { "engine": "Keda", "maxReplicas": 9, "targetRequestsInFlightPerPod": 50,
            "prometheus": { "address": "http://prometheus:9090" } } }))
        .refuses(
            json!({ "autoscaling": { "engine": "Keda", "maxReplicas": 9, "targetRequestsInFlightPerPod": 50 } }),
            "autoscaling.targetRequestsInFlightPerPod with engine Keda needs autoscaling.prometheus.address, where KEDA asks for the number",
        )
        .refuses(
            json!({ "autoscaling": { "minReplicas": 4, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70 } }),
            "autoscaling.minReplicas must not be greater than autoscaling.maxReplicas",
        )
        .refuses(
            json!({ "autoscaling": { "maxReplicas": 3 } }),
            "autoscaling needs a target: targetCPUUtilizationPercentage, targetRequestsInFlightPerPod or both",
        );
}

#[test]
fn proxies_are_trusted_by_address_range() {
    platform().accepts(json!({ "api": { "trustedProxies": ["10.0.0.0/8", "fd00::/8"] } })).refuses(
        json!({ "api": { "trustedProxies": ["10.0.0.1"] } }),
        "trustedProxies must be address ranges such as 10.0.0.0/8",
    );
}

#[test]
fn postgres_and_redis_are_managed_or_external() {
    let postgres = json!({ "storage": { "size": "20Gi" } });
    platform()
        .accepts(json!({ "postgres": { "external": null, "managed": postgres } }))
        .accepts(json!({ "redis": { "external": null, "managed": {} } }))
        .refuses(json!({ "postgres": { "managed": postgres } }), "postgres needs exactly one of managed and external")
        .refuses(json!({ "postgres": { "external": null } }), "postgres needs exactly one of managed and external")
        .refuses(json!({ "redis": { "managed": {} } }), "redis needs exactly one of managed and external")
        .refuses(json!({ "redis": { "external": null } }), "redis needs exactly one of managed and external");
}

#[test]
fn a_managed_database_only_grows() {
    let managed = |version: u32, size: &str| json!({ "postgres": { "external": null, "managed": { "version": version, "storage": { "size": size } } } });
    platform()
        .with(managed(17, "20Gi"))
        .may_become(managed(18, "20480Mi"))
        .may_become(managed(17, "1Ti"))
        .may_not_become(managed(16, "20Gi"), "postgres.managed.version can be raised, never lowered")
        .may_not_become(managed(17, "19Gi"), "storage.size can be grown, never shrunk");
    let redis = |size: &str| json!({ "redis": { "external": null, "managed": { "storage": { "size": size } } } });
    platform()
        .with(redis("1Gi"))
        .may_become(redis("2Gi"))
        .may_not_become(redis("512Mi"), "storage.size can be grown, never shrunk");
}

#[test]
fn there_is_one_way_in() {
    let gateway = json!({ "parentRefs": [{ "name": "public" }] });
    platform()
        .accepts(json!({ "ingress": null, "gateway": gateway }))
        .accepts(json!({ "ingress": null }))
        .refuses(json!({ "gateway": gateway }), "at most one of ingress and gateway can be given");
}

#[test]
fn a_certificate_comes_from_a_secret_or_an_issuer() {
    const SENTENCE: &str = "tls needs exactly one of secretName and issuerRef";
    platform()
        .accepts(json!({ "ingress": { "tls": { "secretName": "cert" } } }))
        .accepts(json!({ "ingress": { "tls": { "issuerRef": { "name": "letsencrypt" } } } }))
        .refuses(json!({ "ingress": { "tls": {} } }), SENTENCE)
        .refuses(
            json!({ "ingress": { "tls": { "secretName": "cert", "issuerRef": { "name": "letsencrypt" } } } }),
            SENTENCE,
        );
}

/// A rollout that measures one number against this range.
fn measuring(strategy: &str, range: Value) -> Value {
    json!({ "rollout": { "strategy": strategy, "analysis": {
        "prometheus": { "address": "http://prometheus:9090" },
        "metrics": [{ "name": "errors", "query": "vector(0)", "thresholdRange": range }],
    }}})
}

#[test]
fn an_analysis_compares_two_colours() {
    platform().accepts(measuring("BlueGreen", json!({ "max": 0.01 }))).refuses(
        measuring("RollingUpdate", json!({ "max": 0.01 })),
        "rollout.analysis needs strategy BlueGreen: a rolling update has nothing to compare",
    );
}

#[test]
fn a_threshold_has_an_end() {
    platform()
        .accepts(measuring("BlueGreen", json!({ "min": 0.5, "max": 0.5 })))
        .refuses(measuring("BlueGreen", json!({})), "thresholdRange needs min, max or both")
        .refuses(
            measuring("BlueGreen", json!({ "min": 2.5, "max": 1.5 })),
            "thresholdRange.min must not be greater than thresholdRange.max",
        );
}

#[test]
fn the_types_check_themselves_by_the_same_rules() {
    use crds::examples;
    assert!(examples::platform().validate_cel().is_ok());
    assert!(examples::blue_green().validate_cel().is_ok());
    assert!(examples::role_binding().validate_cel().is_ok());
    assert!(examples::payment_provider().validate_cel().is_ok());
    assert!(examples::rate_limit_policy().validate_cel().is_ok());
    let before = examples::tenant();
    let mut after = before.clone();
    assert!(after.validate_cel_update(&before).is_ok());
    after.spec.platform_ref = Some("other".into());
    let refused = after.validate_cel_update(&before).unwrap_err();
    assert!(refused[0].message.starts_with("platformRef is immutable"));
}
