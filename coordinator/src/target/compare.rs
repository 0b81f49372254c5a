//! What the API server made of the target Pod that was asked for.
//!
//! Defaults were applied when the source was admitted, so a copy of it comes back as it was sent, unless a webhook
//! injects again, a LimitRange or a quota default has changed, or the source was resized in place.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// A field in which the admitted Pod isn't what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, as in `spec.containers[main].image`.
    pub field: String,
    /// What was asked for; empty if the field was absent.
    pub wanted: String,
    /// What was admitted; empty if the field is absent.
    pub admitted: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |value: &str| if value.is_empty() { "nothing".to_owned() } else { value.to_owned() };
        write!(f, "{} is {} where the source has {}", self.field, told(&self.admitted), told(&self.wanted))
    }
}

/// Where the admitted Pod differs in what its processes see or what Services select on. Annotations and whatever the
/// scheduler and the kubelet write don't count.
pub fn differences(wanted: &Pod, admitted: &Pod) -> Vec<Difference> {
    let mut found = Vec::new();
    let labels = |pod: &Pod| serde_json::to_value(&pod.metadata.labels).unwrap_or_default();
    compare("metadata.labels", &labels(wanted), &labels(admitted), &mut found);
    compare("spec", &spec(wanted), &spec(admitted), &mut found);
    found
}

fn spec(pod: &Pod) -> Value {
    let mut spec = pod.spec.clone().unwrap_or_default();
    // Both change while the target goes its way: the gate falls, the scheduler writes the node.
    spec.scheduling_gates = None;
    spec.node_name = None;
    serde_json::to_value(spec).unwrap_or_default()
}

fn compare(field: &str, wanted: &Value, admitted: &Value, found: &mut Vec<Difference>) {
    match (wanted, admitted) {
        (Value::Object(wanted), Value::Object(admitted)) => {
            for (key, value) in wanted {
                compare(&format!("{field}.{key}"), value, admitted.get(key).unwrap_or(&Value::Null), found);
            }
            for (key, value) in admitted.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                compare(&format!("{field}.{key}"), &Value::Null, value, found);
            }
        }
        (Value::Array(wanted), Value::Array(admitted)) => compare_lists(field, wanted, admitted, found),
        _ if wanted == admitted || (is_empty(wanted) && is_empty(admitted)) => (),
        _ => found.push(Difference { field: field.into(), wanted: told(wanted), admitted: told(admitted) }),
    }
}

/// Items are matched by their key where they have one, so that an injected one doesn't make all after it differ.
fn compare_lists(field: &str, wanted: &[Value], admitted: &[Value], found: &mut Vec<Difference>) {
    let named = |index: usize, item: &Value| key(item).unwrap_or_else(|| index.to_string());
    let list = |items: &[Value]| -> Vec<(String, Value)> {
        items.iter().enumerate().map(|(index, item)| (named(index, item), item.clone())).collect()
    };
    let (wanted, admitted) = (list(wanted), list(admitted));
    let get = |items: &[(String, Value)], key: &str| {
        items.iter().find(|(name, _)| name == key).map_or(Value::Null, |(_, item)| item.clone())
    };
    for (key, item) in &wanted {
        compare(&format!("{field}[{key}]"), item, &get(&admitted, key), found);
    }
    for (key, item) in admitted.iter().filter(|(key, _)| !wanted.iter().any(|(other, _)| other == key)) {
        compare(&format!("{field}[{key}]"), &Value::Null, item, found);
    }
}

/// The key of an item: a mount goes by its path, since a volume may be mounted twice; a port by number and protocol.
fn key(item: &Value) -> Option<String> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let port =
        item.get("containerPort").map(|port| format!("{port}/{}", text("protocol").unwrap_or_default()));
    text("mountPath").or(port).or_else(|| text("name")).or_else(|| text("conditionType"))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn told(value: &Value) -> String {
    if is_empty(value) { String::new() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted() -> Value {
        json!({"metadata": {"name": "t", "labels": {"app": "web"}}, "spec": {
            "schedulingGates": [{"name": "transship.io/expected"}],
            "volumes": [{"name": "cache", "emptyDir": {}}],
            "containers": [{"name": "main", "image": "web:1",
                "resources": {"limits": {"memory": "64Mi"}},
                "volumeMounts": [{"name": "cache", "mountPath": "/a"}, {"name": "cache", "mountPath": "/b"}]}]}})
    }

    fn fields(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut admitted = wanted();
        change(&mut admitted);
        let pod = |value| serde_json::from_value::<Pod>(value).unwrap();
        differences(&pod(wanted()), &pod(admitted)).into_iter().map(|difference| difference.field).collect()
    }

    #[test]
    fn a_pod_equals_itself_scheduled_or_not() {
        assert!(fields(|_| ()).is_empty());
        let scheduled = fields(|pod| {
            pod["spec"]["schedulingGates"] = json!([]);
            pod["spec"]["nodeName"] = json!("b");
            pod["metadata"]["annotations"] = json!({"seen-by": "a webhook"});
        });
        assert!(scheduled.is_empty(), "{scheduled:?}");
    }

    #[test]
    fn an_injected_sidecar_is_named_and_nothing_else() {
        let found = fields(|pod| {
            let containers = pod["spec"]["containers"].as_array_mut().unwrap();
            containers.insert(0, json!({"name": "mesh", "image": "mesh:2"}));
        });
        assert_eq!(found, ["spec.containers[mesh]"]);
    }

    #[test]
    fn a_changed_limit_is_named_with_both_values() {
        let mut admitted = wanted();
        admitted["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("32Mi");
        let pod = |value| serde_json::from_value::<Pod>(value).unwrap();
        let found = differences(&pod(wanted()), &pod(admitted));
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["spec.containers[main].resources.limits.memory is \"32Mi\" where the source has \"64Mi\""]
        );
    }

    #[test]
    fn a_missing_mount_and_a_new_label_are_named() {
        let found = fields(|pod| {
            pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().pop();
            pod["metadata"]["labels"]["tier"] = json!("front");
        });
        assert_eq!(found, ["metadata.labels.tier", "spec.containers[main].volumeMounts[/b]"]);
    }
}
