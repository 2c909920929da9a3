//! Bodies in protobuf, as far as kubectl writes them: its `create` commands and `auth` send built-in kinds so and know no
//! other way. Only what those commands can say is read; a field beyond that is refused rather than lost.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>

use std::{collections::HashMap, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::status::{Result, Status};

pub const MEDIA: &str = "application/vnd.kubernetes.protobuf";

/// Message, then `number=field:type`. `[]` repeats, `{}` is a map of text to that type, `?` keeps zero values (a pointer in
/// Go; others are sent although they are not set), `^` puts the message's fields into its parent, `-` is not read.
const MESSAGES: &str = "
ObjectMeta 1=name:text 2=generateName:text 3=namespace:text 4=selfLink:- 5=uid:- 6=resourceVersion:text 7=generation:- 8=creationTimestamp:- 11=labels:{}text 12=annotations:{}text 13=ownerReferences:[]OwnerReference 14=finalizers:[]text
OwnerReference 1=kind:text 3=name:text 4=uid:text 5=apiVersion:text 6=controller:?bool 7=blockOwnerDeletion:?bool
LabelSelector 1=matchLabels:{}text 2=matchExpressions:[]LabelSelectorRequirement
LabelSelectorRequirement 1=key:text 2=operator:text 3=values:[]text
Namespace 1=metadata:ObjectMeta 2=spec:NamespaceSpec 3=status:-
NamespaceSpec 1=finalizers:[]text
ConfigMap 1=metadata:ObjectMeta 2=data:{}text 3=binaryData:{}bytes 4=immutable:?bool
Secret 1=metadata:ObjectMeta 2=data:{}bytes 3=type:text 4=stringData:{}text 5=immutable:?bool
ServiceAccount 1=metadata:ObjectMeta 4=automountServiceAccountToken:?bool
Service 1=metadata:ObjectMeta 2=spec:ServiceSpec 3=status:-
ServiceSpec 1=ports:[]ServicePort 2=selector:{}text 3=clusterIP:text 4=type:text 7=sessionAffinity:text 8=loadBalancerIP:text 10=externalName:text 11=externalTrafficPolicy:text 12=healthCheckNodePort:int 13=publishNotReadyAddresses:bool
ServicePort 1=name:text 2=protocol:text 3=port:int 4=targetPort:IntOrString 5=nodePort:int 6=appProtocol:text
ResourceQuota 1=metadata:ObjectMeta 2=spec:ResourceQuotaSpec 3=status:-
ResourceQuotaSpec 1=hard:{}Quantity 2=scopes:[]text
Deployment 1=metadata:ObjectMeta 2=spec:DeploymentSpec 3=status:-
DeploymentSpec 1=replicas:?int 2=selector:LabelSelector 3=template:PodTemplateSpec 4=strategy:- 5=minReadySeconds:int 6=revisionHistoryLimit:?int 7=paused:bool 9=progressDeadlineSeconds:?int
PodTemplateSpec 1=metadata:ObjectMeta 2=spec:PodSpec
PodSpec 2=containers:[]Container 3=restartPolicy:text 4=terminationGracePeriodSeconds:?int 6=dnsPolicy:text 8=serviceAccountName:text 9=serviceAccount:text 10=nodeName:text 11=hostNetwork:bool 12=hostPID:bool 13=hostIPC:bool 14=securityContext:- 16=hostname:text 17=subdomain:text 19=schedulerName:text 24=priorityClassName:text
Container 1=name:text 2=image:text 3=command:[]text 4=args:[]text 5=workingDir:text 6=ports:[]ContainerPort 7=env:[]EnvVar 8=resources:ResourceRequirements 13=terminationMessagePath:text 14=imagePullPolicy:text 16=stdin:bool 17=stdinOnce:bool 18=tty:bool 20=terminationMessagePolicy:text
ContainerPort 1=name:text 2=hostPort:int 3=containerPort:int 4=protocol:text 5=hostIP:text
EnvVar 1=name:text 2=value:text
ResourceRequirements 1=limits:{}Quantity 2=requests:{}Quantity
Job 1=metadata:ObjectMeta 2=spec:JobSpec 3=status:-
JobSpec 1=parallelism:?int 2=completions:?int 3=activeDeadlineSeconds:?int 4=selector:LabelSelector 5=manualSelector:bool 6=template:PodTemplateSpec 7=backoffLimit:?int 8=ttlSecondsAfterFinished:?int 9=completionMode:text 10=suspend:bool
CronJob 1=metadata:ObjectMeta 2=spec:CronJobSpec 3=status:-
CronJobSpec 1=schedule:text 2=startingDeadlineSeconds:?int 3=concurrencyPolicy:text 4=suspend:bool 5=jobTemplate:JobTemplateSpec 6=successfulJobsHistoryLimit:?int 7=failedJobsHistoryLimit:?int 8=timeZone:text
JobTemplateSpec 1=metadata:ObjectMeta 2=spec:JobSpec
Role 1=metadata:ObjectMeta 2=rules:[]PolicyRule
ClusterRole 1=metadata:ObjectMeta 2=rules:[]PolicyRule
PolicyRule 1=verbs:[]text 2=apiGroups:[]text 3=resources:[]text 4=resourceNames:[]text 5=nonResourceURLs:[]text
RoleBinding 1=metadata:ObjectMeta 2=subjects:[]Subject 3=roleRef:RoleRef
ClusterRoleBinding 1=metadata:ObjectMeta 2=subjects:[]Subject 3=roleRef:RoleRef
RoleRef 1=apiGroup:text 2=kind:text 3=name:text
Subject 1=kind:text 2=apiGroup:text 3=name:text 4=namespace:text
PodDisruptionBudget 1=metadata:ObjectMeta 2=spec:PodDisruptionBudgetSpec 3=status:-
PodDisruptionBudgetSpec 1=minAvailable:IntOrString 2=selector:LabelSelector 3=maxUnavailable:IntOrString
PriorityClass 1=metadata:ObjectMeta 2=value:?int 3=globalDefault:bool 4=description:text 5=preemptionPolicy:text
Ingress 1=metadata:ObjectMeta 2=spec:IngressSpec 3=status:-
IngressSpec 1=defaultBackend:IngressBackend 2=tls:[]IngressTLS 3=rules:[]IngressRule 4=ingressClassName:text
IngressTLS 1=hosts:[]text 2=secretName:text
IngressRule 1=host:text 2=value:^IngressRuleValue
IngressRuleValue 1=http:HTTPIngressRuleValue
HTTPIngressRuleValue 1=paths:[]HTTPIngressPath
HTTPIngressPath 1=path:text 2=backend:IngressBackend 3=pathType:text
IngressBackend 4=service:IngressServiceBackend
IngressServiceBackend 1=name:text 2=port:ServiceBackendPort
ServiceBackendPort 1=name:text 2=number:int
SelfSubjectAccessReview 1=metadata:ObjectMeta 2=spec:SelfSubjectAccessReviewSpec 3=status:-
SelfSubjectAccessReviewSpec 1=resourceAttributes:ResourceAttributes 2=nonResourceAttributes:NonResourceAttributes
ResourceAttributes 1=namespace:text 2=verb:text 3=group:text 4=version:text 5=resource:text 6=subresource:text 7=name:text
NonResourceAttributes 1=path:text 2=verb:text
SelfSubjectRulesReview 1=metadata:ObjectMeta 2=spec:SelfSubjectRulesReviewSpec 3=status:-
SelfSubjectRulesReviewSpec 1=namespace:text
SelfSubjectReview 1=metadata:ObjectMeta 2=status:-
DeleteOptions 1=gracePeriodSeconds:?int 2=preconditions:Preconditions 3=orphanDependents:?bool 4=propagationPolicy:text 5=dryRun:[]text
Preconditions 1=uid:text 2=resourceVersion:text
";

type Fields = HashMap<u64, (&'static str, &'static str)>;

fn message(name: &str) -> Option<&'static Fields> {
    static PARSED: LazyLock<HashMap<&'static str, Fields>> = LazyLock::new(|| {
        let field = |word: &'static str| {
            let (number, rest) = word.split_once('=')?;
            Some((number.parse().ok()?, rest.split_once(':')?))
        };
        let lines = MESSAGES.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(name, fields)| (name, fields.split(' ').filter_map(field).collect())).collect()
    });
    PARSED.get(name)
}

/// The object in a body: four magic bytes, then an envelope of its type and its own bytes.
pub fn decode(body: &[u8]) -> Result<Value> {
    let envelope = body.strip_prefix(b"k8s\0").ok_or_else(|| unreadable("it does not begin with k8s"))?;
    let (mut kind, mut api_version, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Reader(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Reader(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = json!({ "apiVersion": api_version, "kind": kind });
    read(&kind, raw, crate::object::map(&mut object))?;
    Ok(object)
}

fn unreadable(why: &str) -> Status {
    Status::unsupported_media_type(&format!("{MEDIA} ({why})"), "application/json, application/yaml")
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| unreadable("text that is not UTF-8"))
}

fn read(name: &str, bytes: &[u8], object: &mut Map<String, Value>) -> Result<()> {
    let fields = message(name).ok_or_else(|| unreadable(&format!("{name} is not understood in protobuf")))?;
    for field in Reader(bytes) {
        let (number, wire) = field?;
        let (field, kind) =
            fields.get(&number).ok_or_else(|| unreadable(&format!("field {number} of {name} is not understood")))?;
        if let Some(kind) = kind.strip_prefix("[]") {
            let item = value(kind, &wire)?;
            if let Value::Array(list) = object.entry(*field).or_insert_with(|| json!([])) {
                list.push(item);
            }
        } else if let Some(kind) = kind.strip_prefix("{}") {
            let (key, item) = entry(kind, &wire)?;
            crate::object::map(object.entry(*field).or_insert(Value::Null)).insert(key, item);
        } else if let (Some(kind), Wire::Bytes(bytes)) = (kind.strip_prefix('^'), &wire) {
            read(kind, bytes, object)?;
        } else if let Some(kind) = kind.strip_prefix('?') {
            object.insert((*field).to_owned(), value(kind, &wire)?);
        } else if *kind != "-" {
            let value = value(kind, &wire)?;
            let unset = matches!(&value, Value::String(text) if text.is_empty())
                || value == 0
                || value == false
                || value.is_null();
            if !unset {
                object.insert((*field).to_owned(), value);
            }
        }
    }
    Ok(())
}

fn entry(kind: &str, wire: &Wire<'_>) -> Result<(String, Value)> {
    let Wire::Bytes(bytes) = wire else { return Err(unreadable("a map that is not one")) };
    let (mut key, mut item) = (String::new(), if kind == "Quantity" { Value::Null } else { json!("") });
    for field in Reader(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => key = utf8(text)?,
            (2, wire) => item = value(kind, &wire)?,
            _ => {}
        }
    }
    Ok((key, item))
}

fn value(kind: &str, wire: &Wire<'_>) -> Result<Value> {
    match (kind, wire) {
        ("text", Wire::Bytes(bytes)) => Ok(json!(utf8(bytes)?)),
        ("bytes", Wire::Bytes(bytes)) => Ok(json!(STANDARD.encode(bytes))),
        ("bool", Wire::Number(number)) => Ok(json!(*number != 0)),
        ("int", Wire::Number(number)) => Ok(json!(number.cast_signed())),
        ("Quantity", Wire::Bytes(bytes)) => {
            let text = Reader(bytes).find_map(|field| match field {
                Ok((1, Wire::Bytes(text))) => Some(utf8(text)),
                _ => None,
            });
            Ok(json!(text.transpose()?.unwrap_or_default()))
        }
        ("IntOrString", Wire::Bytes(bytes)) => {
            let (mut is_text, mut number, mut text) = (false, 0, String::new());
            for field in Reader(bytes) {
                match field? {
                    (1, Wire::Number(kind)) => is_text = kind == 1,
                    (2, Wire::Number(value)) => number = value.cast_signed(),
                    (3, Wire::Bytes(value)) => text = utf8(value)?,
                    _ => {}
                }
            }
            Ok(match (is_text, text.is_empty(), number) {
                (true, false, _) => json!(text),
                (_, _, 0) => Value::Null,
                _ => json!(number),
            })
        }
        (kind, Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            read(kind, bytes, &mut object)?;
            Ok(Value::Object(object))
        }
        _ => Err(unreadable("a field of the wrong wire type")),
    }
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, by number.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, wire))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Whatever follows cannot be told apart any more.
            self.0 = &[];
        }
        Some(field.ok_or_else(|| unreadable("it is cut short")))
    }
}
