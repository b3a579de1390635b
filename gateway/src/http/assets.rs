//! The page, inside the binary.

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use super::{HttpResponse, text, typed};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page, by its name: its type and its text.
macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("../../assets/", $name)))),*]
    };
}

const FILES: &[(&str, &str, &str)] = files! {
    "index.html": HTML,
    "style.css": CSS,
    "assistant.js": SCRIPT,
    "changes.js": SCRIPT,
    "chat.js": SCRIPT,
    "connection.js": SCRIPT,
    "elements.js": SCRIPT,
    "messages.js": SCRIPT,
    "page.js": SCRIPT,
    "people.js": SCRIPT,
    "presence.js": SCRIPT,
    "protocol.js": SCRIPT,
    "receipts.js": SCRIPT,
    "room.js": SCRIPT,
    "sign_in.js": SCRIPT,
    "storage.js": SCRIPT,
    "time.js": SCRIPT,
    "typing.js": SCRIPT,
};

/// Nothing from elsewhere, nothing inline: what a member says can never run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// Answers for one of the page's files. `asks_for_token`: nobody may name themselves here, so the
/// page asks for a token.
pub(super) fn answer(method: &Method, path: &str, asks_for_token: bool) -> HttpResponse {
    let name = if path == "/" { Some("index.html") } else { path.strip_prefix("/assets/") };
    let file = FILES.iter().find(|(file, ..)| Some(*file) == name);
    let Some(&(_, content_type, body)) = file else {
        return text(StatusCode::NOT_FOUND, "nothing is here\n");
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let body = if asks_for_token && content_type == HTML {
        Bytes::from(body.replacen("<body>", "<body data-sign-in=\"token\">", 1))
    } else {
        Bytes::from_static(body.as_bytes())
    };
    let mut answer = typed(StatusCode::OK, content_type, body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let policy = HeaderName::from_static("content-security-policy");
    headers.insert(policy, HeaderValue::from_static(POLICY));
    let sniff = HeaderName::from_static("x-content-type-options");
    headers.insert(sniff, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served_and_nothing_else() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // The description of the API, which is no part of the page.
            .filter(|name| name != "openapi.json")
            .collect();
        let mut served: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        there.sort();
        served.sort_unstable();
        assert_eq!(served, there);
    }

    #[test]
    fn what_a_script_imports_is_served() {
        for (name, _, script) in FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT) {
            let imports = script.split("from \"").skip(1).filter_map(|rest| rest.split('"').next());
            for import in imports {
                let found = import
                    .strip_prefix("./")
                    .is_some_and(|import| FILES.iter().any(|(file, ..)| *file == import));
                assert!(found, "{name} imports {import}, which is not served");
            }
        }
    }

    #[test]
    fn the_page_is_at_the_root_and_only_to_be_read() {
        let answered = |method: Method, path: &str| answer(&method, path, false).status();
        assert_eq!(answered(Method::GET, "/"), StatusCode::OK);
        assert_eq!(answered(Method::HEAD, "/assets/page.js"), StatusCode::OK);
        assert_eq!(answered(Method::POST, "/"), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answered(Method::GET, "/assets/../Cargo.toml"), StatusCode::NOT_FOUND);
        assert_eq!(answered(Method::GET, "/page.js"), StatusCode::NOT_FOUND);
    }
}
