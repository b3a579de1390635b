//! The part of JSON Schema that the description uses; a keyword that is not known is a complaint.

use serde_json::{Map, Value};

/// Keywords that say nothing about what is valid.
const NOTES: [&str; 6] = ["description", "title", "examples", "default", "format", "$ref"];

/// The schemas of one document.
#[derive(Debug)]
pub(super) struct Schemas<'a> {
    document: &'a Value,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(document: &'a Value) -> Schemas<'a> {
        Schemas { document }
    }

    /// What a reference leads to, or the value itself.
    pub(super) fn resolve(&self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
            Some(path) => self.document.pointer(path).unwrap_or(&Value::Null),
            None => value,
        }
    }

    /// What is wrong with a value.
    pub(super) fn check(&self, schema: &'a Value, value: &Value, at: &str) -> Vec<String> {
        let schema = self.resolve(schema);
        if let Some(any) = schema.as_bool() {
            return if any { Vec::new() } else { vec![format!("{at} must not be there")] };
        }
        let Some(keywords) = schema.as_object() else {
            return vec![format!("{at} has no schema")];
        };
        let mut complaints = Vec::new();
        for (keyword, says) in keywords {
            match self.keyword(keywords, (keyword, says), value, at) {
                Ok(found) => complaints.extend(found),
                Err(text) => complaints.push(format!("{at}: {text}")),
            }
        }
        let format = schema["format"].as_str();
        if format == Some("date-time")
            && let Some(text) = value.as_str()
            && !is_time(text)
        {
            complaints.push(format!("{at}: {text:?} is no time"));
        }
        complaints
    }

    fn keyword(
        &self,
        keywords: &'a Map<String, Value>,
        (keyword, says): (&str, &'a Value),
        value: &Value,
        at: &str,
    ) -> Result<Vec<String>, String> {
        let fine = |holds: bool, what: &str| {
            if holds { Ok(Vec::new()) } else { Err(format!("{value} is not {what} {says}")) }
        };
        let within = |holds: fn(f64, f64) -> bool| {
            let bound = says.as_f64().unwrap_or(f64::NAN);
            value.as_f64().is_none_or(|number| holds(number, bound))
        };
        match keyword {
            "type" => fine(has_type(says, value), "of type"),
            "enum" => fine(says.as_array().is_some_and(|all| all.contains(value)), "one of"),
            "const" => fine(says == value, "equal to"),
            "minimum" => fine(within(|number, bound| number >= bound), "at least"),
            "maximum" => fine(within(|number, bound| number <= bound), "at most"),
            "minLength" | "maxLength" | "minItems" | "maxItems" => {
                let bound = usize::try_from(says.as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
                let length = match value {
                    Value::String(text) => text.chars().count(),
                    Value::Array(items) => items.len(),
                    _ => return Ok(Vec::new()),
                };
                let least = keyword.starts_with("min");
                let holds = if least { length >= bound } else { length <= bound };
                fine(holds, keyword)
            }
            "pattern" => {
                let holds = match (says.as_str(), value.as_str()) {
                    (Some(pattern), Some(text)) => matches(pattern, text)?,
                    (_, _) => true,
                };
                fine(holds, "of the form")
            }
            "required" => {
                let names = says.as_array().into_iter().flatten().filter_map(Value::as_str);
                let missing = names.filter(|name| value.is_object() && value.get(name).is_none());
                Ok(missing.map(|name| format!("{at} has no {name}")).collect())
            }
            "properties" => Ok(self.properties((says, keywords), value, at)),
            "additionalProperties" => Ok(Vec::new()),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                let checked = items
                    .flat_map(|(place, item)| self.check(says, item, &format!("{at}[{place}]")));
                Ok(checked.collect())
            }
            "oneOf" | "anyOf" => {
                let choices = says.as_array().into_iter().flatten();
                let fitting = choices.filter(|one| self.check(one, value, at).is_empty()).count();
                let holds = if keyword == "oneOf" { fitting == 1 } else { fitting > 0 };
                fine(holds, keyword)
            }
            note if NOTES.contains(&note) => Ok(Vec::new()),
            unknown => Err(format!("the keyword {unknown} is not known")),
        }
    }

    /// Every property by its schema; one that is not declared by that of `additionalProperties`,
    /// which is `false` where nothing is said.
    fn properties(
        &self,
        (declared, keywords): (&'a Value, &'a Map<String, Value>),
        value: &Value,
        at: &str,
    ) -> Vec<String> {
        const CLOSED: &Value = &Value::Bool(false);
        let others = keywords.get("additionalProperties").unwrap_or(CLOSED);
        let properties = value.as_object().into_iter().flatten();
        let checked = properties.flat_map(|(name, property)| {
            let schema = declared.get(name).unwrap_or(others);
            self.check(schema, property, &format!("{at}.{name}"))
        });
        checked.collect()
    }
}

/// The few patterns of the description: one set of characters, negated or not, from the beginning
/// to the end. One that is not known is a complaint.
fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    let id = |character: char, more: &str| {
        !(character.is_whitespace()
            || character.is_control()
            || "{}".contains(character)
            || more.contains(character))
    };
    match pattern {
        r"^[^\s\u0000-\u001f\u007f-\u009f{}]+$" => {
            Ok(!text.is_empty() && text.chars().all(|character| id(character, "")))
        }
        r"^[^\s\u0000-\u001f\u007f-\u009f{}*]+$" => {
            Ok(!text.is_empty() && text.chars().all(|character| id(character, "*")))
        }
        unknown => Err(format!("the pattern {unknown} is not known")),
    }
}

fn has_type(says: &Value, value: &Value) -> bool {
    match says {
        Value::Array(types) => types.iter().any(|one| has_type(one, value)),
        Value::String(name) => match name.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        },
        _ => false,
    }
}

/// As the protocol writes times: `2026-11-22T17:04:05.123Z`.
fn is_time(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == form.len()
        && text.chars().zip(form.chars()).all(|(given, wanted)| match wanted {
            'd' => given.is_ascii_digit(),
            wanted => given == wanted,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_schema_does_not_allow_is_found() {
        let document = json!({ "schemas": { "Id": { "type": "string", "minLength": 1 } } });
        let schemas = Schemas::new(&document);
        let schema = json!({
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": { "$ref": "#/schemas/Id" },
                "at": { "type": "string", "format": "date-time" },
                "count": { "type": ["integer", "null"], "minimum": 1 },
                "list": { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 2 },
                "either": { "oneOf": [{ "type": "string" }, { "const": 3 }] },
                "open": { "type": "object", "properties": {}, "additionalProperties": true }
            }
        });
        let found = |value: Value| schemas.check(&schema, &value, "it").len();
        assert_eq!(found(json!({ "id": "x", "at": "2026-11-22T17:04:05.123Z" })), 0);
        assert_eq!(found(json!({ "id": "x", "count": null, "list": ["a"], "either": 3 })), 0);
        assert_eq!(found(json!({ "id": "x", "open": { "any": [1] } })), 0);
        for bad in [
            json!([]),
            json!({}),
            json!({ "id": "" }),
            json!({ "id": 1 }),
            json!({ "id": "x", "undeclared": 1 }),
            json!({ "id": "x", "at": "yesterday" }),
            json!({ "id": "x", "count": 0 }),
            json!({ "id": "x", "count": 1.5 }),
            json!({ "id": "x", "list": ["c"] }),
            json!({ "id": "x", "list": ["a", "a", "a"] }),
            json!({ "id": "x", "either": 4 }),
        ] {
            assert!(found(bad.clone()) > 0, "{bad}");
        }
        let strange = json!({ "whatever": 1 });
        assert_eq!(schemas.check(&strange, &Value::Null, "it").len(), 1);
    }
}
