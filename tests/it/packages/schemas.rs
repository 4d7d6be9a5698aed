//! Schemas of Kubernetes as files that kubeconform reads: its own are on the internet only. These are made of the OpenAPI documents
//! in a Go module of Kubernetes, and one is written here: that of ServiceMonitor, which is not Kubernetes's own.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::clients::kubernetes_schemas;

/// The API groups of what the chart makes, and where their documents are.
const DOCUMENTS: [&str; 3] = ["api/v1.json", "apis/apps/v1.json", "apis/networking.k8s.io/v1.json"];

/// A directory of schemas.
pub struct Schemas(TempDir);

impl Schemas {
    /// Makes those of a version of Kubernetes.
    pub fn of(version: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = kubernetes_schemas().unwrap().join(version);
        for document in DOCUMENTS {
            let text =
                fs::read_to_string(source.join(document)).unwrap_or_else(|e| panic!("{document}: {e}"));
            write_all(serde_json::from_str(&text).unwrap(), dir.path());
        }
        fs::write(dir.path().join("servicemonitor-monitoring-v1.json"), service_monitor().to_string())
            .unwrap();
        Self(dir)
    }

    /// What kubeconform is told.
    pub fn location(&self) -> String {
        format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", self.0.path().display())
    }
}

/// Writes a file for each kind of an OpenAPI document: it refers to one of the schemas, which are all within.
fn write_all(mut document: Value, dir: &Path) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { panic!("no schemas") };
    schemas.values_mut().for_each(close);
    let components = json!({ "schemas": schemas });
    let text = components.to_string();
    for (name, schema) in components["schemas"].as_object().unwrap() {
        // Options of requests belong to all groups.
        let Some([kind]) = schema["x-kubernetes-group-version-kind"].as_array().map(Vec::as_slice) else {
            continue;
        };
        let [kind, group, version] = ["kind", "group", "version"].map(|part| kind[part].as_str().unwrap());
        let group = group.split('.').next().unwrap_or_default();
        let kind = kind.to_lowercase();
        let parts = [&kind, group, version].into_iter().filter(|part| !part.is_empty());
        let file = format!("{}.json", parts.collect::<Vec<_>>().join("-"));
        let schema = format!(r##"{{"$ref":"#/components/schemas/{name}","components":{text}}}"##);
        fs::write(dir.join(file), schema).unwrap();
    }
}

/// Allows objects no fields but those that are named: OpenAPI ignores others, and so would Kubernetes.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            let names_fields = members.get("type").is_some_and(|kind| kind == "object")
                && members.get("properties").is_some_and(Value::is_object);
            if names_fields && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// An object of these fields, of which all that are listed are required. It is read as draft 4, which has no `const` and no empty
/// `required`.
fn object(fields: &[(&str, Value)], required: &[&str]) -> Value {
    let fields: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let mut object = json!({ "type": "object", "properties": fields, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// The part of the Prometheus operator's `monitoring.coreos.com/v1` that a chart uses.
fn service_monitor() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let texts = json!({ "type": "object", "additionalProperties": text });
    let duration = json!({ "type": "string", "pattern": "^(0|([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$", "minLength": 1 });
    let endpoint = object(
        &[
            ("port", text.clone()),
            ("path", json!({ "type": "string", "pattern": "^/" })),
            ("scheme", json!({ "enum": ["http", "https"] })),
            ("interval", duration.clone()),
            ("scrapeTimeout", duration),
        ],
        &["port"],
    );
    let endpoints = json!({ "type": "array", "items": endpoint, "minItems": 1 });
    let selector = object(&[("matchLabels", texts.clone())], &["matchLabels"]);
    let names = object(&[("matchNames", json!({ "type": "array", "items": text }))], &[]);
    let spec = [
        ("selector", selector),
        ("endpoints", endpoints),
        ("namespaceSelector", names),
        ("jobLabel", text.clone()),
    ];
    let metadata =
        [("name", text.clone()), ("namespace", text), ("labels", texts.clone()), ("annotations", texts)];
    object(
        &[
            ("apiVersion", json!({ "enum": ["monitoring.coreos.com/v1"] })),
            ("kind", json!({ "enum": ["ServiceMonitor"] })),
            ("metadata", object(&metadata, &["name"])),
            ("spec", object(&spec, &["selector", "endpoints"])),
        ],
        &["apiVersion", "kind", "metadata", "spec"],
    )
}
