//! Who may ask, and whether the description names what there is.

use super::*;

#[test]
fn without_keys_only_the_development_mode_is_open() {
    assert!(open_to_this_machine(true).is_ok());
    assert_eq!(open_to_this_machine(false).unwrap_err().answer().status(), 403);
}

#[test]
fn what_is_sent_to_another_name_is_a_problem_that_names_the_header() {
    for (error, status) in [(HostError::Foreign, 403), (HostError::Malformed, 400)] {
        let answer = no_loopback(error).answer();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

fn description() -> serde_json::Value {
    serde_json::from_str(DESCRIPTION).unwrap()
}

#[test]
fn the_description_has_every_route_and_no_other() {
    let document = description();
    let mut described: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut routes: Vec<String> = route::ROUTES
        .iter()
        .map(|(template, method, _)| format!("{method} {PREFIX}{template}"))
        .collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
}

#[test]
fn the_description_is_of_this_version_and_names_every_code() {
    let document = description();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let codes = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    let codes = codes.as_array().unwrap();
    // A code that is not listed here does not compile in `problem::status`.
    for code in codes {
        let code: RefusalCode = serde_json::from_value(code.clone()).unwrap();
        let answer = Problem::new(code, "text").answer();
        assert_eq!(answer.status(), problem::status(code));
    }
    assert_eq!(codes.len(), 18);
}

#[test]
fn a_problem_tells_when_to_try_again_in_seconds_too() {
    let refusal = Refusal::new(RefusalCode::Backpressure, "full").retry_after_ms(1001);
    let answer = Problem::from(refusal).answer();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

/// The table of codes in the documentation is the one that holds.
#[test]
fn the_documentation_has_the_table_of_codes_and_statuses() {
    let page = include_str!("../../../../docs/API.md");
    let document = description();
    let codes = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    for code in codes.as_array().unwrap() {
        let parsed: RefusalCode = serde_json::from_value(code.clone()).unwrap();
        let row = format!("| `{}` | {} ", code.as_str().unwrap(), problem::status(parsed).as_u16());
        assert!(page.contains(&row), "{row}");
    }
}
