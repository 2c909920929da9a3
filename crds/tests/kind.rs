//! A kind under test: its installed schema and a good object, which each case changes by a merge patch.

use crds::{definition, examples};
use kube::CustomResourceExt;
use kube_cel::Validator;
use serde::Serialize;
use serde_json::{Value, json};

pub struct Kind {
    pub name: String,
    pub schema: Value,
    good: Value,
}

pub fn platform() -> Kind {
    Kind::of(&examples::platform())
}

pub fn tenant() -> Kind {
    Kind::of(&examples::tenant())
}

pub fn role_binding() -> Kind {
    Kind::of(&examples::role_binding())
}

pub fn payment_provider() -> Kind {
    Kind::of(&examples::payment_provider())
}

pub fn rate_limit_policy() -> Kind {
    Kind::of(&examples::rate_limit_policy())
}

pub fn all() -> [Kind; 5] {
    [platform(), tenant(), role_binding(), payment_provider(), rate_limit_policy()]
}

impl Kind {
    fn of<K: CustomResourceExt + Serialize>(example: &K) -> Self {
        let crd = definition::<K>();
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        Self {
            name: crd.spec.names.kind.clone(),
            schema: serde_json::to_value(schema).unwrap(),
            good: serde_json::to_value(example).unwrap(),
        }
    }

    pub fn example(&self) -> &Value {
        &self.good
    }

    /// The same kind, with another object as the good one.
    pub fn with(mut self, spec: Value) -> Self {
        self.good = self.patched(&json!({ "spec": spec }));
        self
    }

    /// An object with this spec may be created.
    pub fn accepts(&self, spec: Value) -> &Self {
        self.expect(&json!({ "spec": spec }), None, &[])
    }

    /// An object with this spec is refused, and with this sentence only.
    pub fn refuses(&self, spec: Value, sentence: &str) -> &Self {
        self.expect(&json!({ "spec": spec }), None, &[sentence])
    }

    /// The good object may be changed to this spec.
    pub fn may_become(&self, spec: Value) -> &Self {
        self.expect(&json!({ "spec": spec }), Some(&self.good), &[])
    }

    /// The good object may not be changed to this spec, and this is said.
    pub fn may_not_become(&self, spec: Value, sentence: &str) -> &Self {
        self.expect(&json!({ "spec": spec }), Some(&self.good), &[sentence])
    }

    /// As `accepts`, of a name.
    pub fn accepts_name(&self, name: &str) -> &Self {
        self.expect(&json!({ "metadata": { "name": name } }), None, &[])
    }

    /// As `refuses`, of a name.
    pub fn refuses_name(&self, name: &str, sentence: &str) -> &Self {
        self.expect(&json!({ "metadata": { "name": name } }), None, &[sentence])
    }

    fn expect(&self, patch: &Value, old: Option<&Value>, sentences: &[&str]) -> &Self {
        let object = self.patched(patch);
        let refused = Validator::new().validate(&self.schema, &object, old).err();
        let said: Vec<_> = refused.iter().flatten().map(|error| error.message.as_str()).collect();
        assert_eq!(said, sentences, "{} with {patch}", self.name);
        self
    }

    fn patched(&self, patch: &Value) -> Value {
        let mut object = self.good.clone();
        json_patch::merge(&mut object, patch);
        object
    }
}
