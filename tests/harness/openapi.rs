//! Compares what an API answers with its description (`OpenAPI` 3.1), stricter than the standard:
//! an object has no properties but those that are declared, unless it says that it may.

mod schema;

use crate::http::ApiAnswer;
use schema::Schemas;
use serde_json::Value;
use std::collections::BTreeSet;

/// A description, and which of its answers were seen.
#[derive(Debug)]
pub struct Description {
    document: Value,
    seen: BTreeSet<(String, String)>,
}

impl Description {
    /// Takes a document.
    pub fn new(document: Value) -> Description {
        Description { document, seen: BTreeSet::new() }
    }

    /// Every `(method, path)` that it describes, methods in upper case.
    pub fn operations(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().into_iter().flatten();
        paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().into_iter().flatten();
                let methods = methods.filter(|(name, _)| *name != "parameters");
                methods.map(|(method, _)| (method.to_uppercase(), path.clone()))
            })
            .collect()
    }

    /// What of an exchange the description does not allow. `path` is a template of it.
    pub fn check(
        &mut self,
        (method, path): (&str, &str),
        body: Option<&Value>,
        answer: &ApiAnswer,
    ) -> Vec<String> {
        let operation = &self.document["paths"][path][method.to_lowercase()];
        if operation.is_null() {
            return vec![format!("{method} {path} is not described")];
        }
        let schemas = Schemas::new(&self.document);
        let mut complaints = Vec::new();
        if let Some(body) = body.filter(|_| answer.status < 300) {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            complaints.extend(schemas.check(schema, body, "request"));
        }
        let status = answer.status.to_string();
        let responses = &operation["responses"];
        let range = format!("{}XX", &status[..1]);
        let named = if responses[&status].is_null() { range.as_str() } else { status.as_str() };
        let response = schemas.resolve(&responses[named]);
        let media = answer.header("content-type").unwrap_or_default();
        let schema = &response["content"][media]["schema"];
        if schema.is_null() {
            complaints.push(format!("{status} with {media:?} is not described"));
        } else {
            complaints.extend(schemas.check(schema, &answer.json(), "answer"));
        }
        let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
        self.seen.insert((name, named.to_owned()));
        complaints.iter().map(|text| format!("{method} {path} {status}: {text}")).collect()
    }

    /// The answers that are described and were not seen, as `operation status`.
    pub fn unseen(&self) -> Vec<String> {
        let mut unseen = Vec::new();
        for (method, path) in self.operations() {
            let operation = &self.document["paths"][&path][method.to_lowercase()];
            let name = operation["operationId"].as_str().unwrap_or_default();
            for (status, _) in operation["responses"].as_object().into_iter().flatten() {
                // A fault of the server's own or of what is behind it cannot be had at will.
                if status != "5XX" && !self.seen.contains(&(name.to_owned(), status.clone())) {
                    unseen.push(format!("{name} {status}"));
                }
            }
        }
        unseen
    }
}
