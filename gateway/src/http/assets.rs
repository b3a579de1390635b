//! The page, inside the binary.

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use super::{Answer, text, typed};

const PAGE: &str = include_str!("../../assets/index.html");
const STYLE: &str = include_str!("../../assets/style.css");
const SCRIPT: &str = include_str!("../../assets/chat.js");

/// Nothing from elsewhere, nothing inline: what a member says can never run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Answers for one of the page's files.
pub(super) fn answer(method: &Method, path: &str) -> Answer {
    let (content_type, body) = match path {
        "/" => ("text/html; charset=utf-8", PAGE),
        "/assets/style.css" => ("text/css; charset=utf-8", STYLE),
        "/assets/chat.js" => ("text/javascript; charset=utf-8", SCRIPT),
        _ => return text(StatusCode::NOT_FOUND, "nothing is here\n"),
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let mut answer = typed(StatusCode::OK, content_type, Bytes::from_static(body.as_bytes()));
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let policy = HeaderName::from_static("content-security-policy");
    headers.insert(policy, HeaderValue::from_static(POLICY));
    let sniff = HeaderName::from_static("x-content-type-options");
    headers.insert(sniff, HeaderValue::from_static("nosniff"));
    answer
}
