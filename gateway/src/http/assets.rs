//! The page and the client of anybody's page, inside the binary: as they are, and compressed.
//!
//! `gateway/page/build` makes the files; none of them needs anything else to be there.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, VARY,
};
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::{HttpResponse, text, typed};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// One way in which a file is sent.
struct Form {
    /// Its `Content-Encoding`; `None` for the file as it is.
    encoding: Option<&'static str>,
    bytes: &'static [u8],
    /// A strong `ETag`: other bytes have another one, in another encoding too.
    tag: HeaderValue,
}

struct File {
    name: &'static str,
    content_type: &'static str,
    /// The smallest first; the last one anybody can read.
    forms: [Form; 3],
}

impl Form {
    fn new(encoding: Option<&'static str>, bytes: &'static [u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let tag = format!("\"{}\"", hex::encode(&digest[..16]));
        let tag = HeaderValue::try_from(tag).expect("hexadecimal digits in quotes");
        Self { encoding, bytes, tag }
    }
}

/// Files of the page, each by its name and type, in all their forms.
macro_rules! files {
    ($($name:literal: $kind:expr),* $(,)?) => {
        [$(File {
            name: $name,
            content_type: $kind,
            forms: [
                Form::new(Some("br"), include_bytes!(concat!("../../assets/", $name, ".br"))),
                Form::new(Some("gzip"), include_bytes!(concat!("../../assets/", $name, ".gz"))),
                Form::new(None, include_bytes!(concat!("../../assets/", $name))),
            ],
        }),*]
    };
}

/// Made when the first of them is asked for.
static FILES: LazyLock<[File; 6]> = LazyLock::new(|| {
    files! {
        "index.html": HTML,
        "index.token.html": HTML,
        "style.css": CSS,
        "page.js": SCRIPT,
        "later.js": SCRIPT,
        "client.js": SCRIPT,
    }
});

/// Nothing from elsewhere, nothing inline: what a member says can never run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// Answers for one of the page's files. `asks_for_token`: nobody may name themselves here, so the
/// page asks for a token.
pub(super) fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    asks_for_token: bool,
) -> HttpResponse {
    let name = match path {
        "/" if asks_for_token => Some("index.token.html"),
        "/" => Some("index.html"),
        "/client.js" => Some("client.js"),
        _ => path.strip_prefix("/assets/").filter(|name| !name.ends_with(".html")),
    };
    let Some(file) = FILES.iter().find(|file| Some(file.name) == name) else {
        return text(StatusCode::NOT_FOUND, "nothing is here\n");
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    file.answer(headers)
}

impl File {
    /// In the smallest form that the client takes, or without it where the client has that.
    fn answer(&self, request: &HeaderMap) -> HttpResponse {
        let [.., plain] = &self.forms;
        let form = self.forms.iter().find(|form| form.is_taken(request)).unwrap_or(plain);
        let mut answer = if form.is_held(request) {
            let mut answer = typed(StatusCode::NOT_MODIFIED, self.content_type, Bytes::new());
            answer.headers_mut().remove(CONTENT_TYPE);
            answer
        } else {
            typed(StatusCode::OK, self.content_type, Bytes::from_static(form.bytes))
        };
        let headers = answer.headers_mut();
        if let Some(encoding) = form.encoding.filter(|_| headers.contains_key(CONTENT_TYPE)) {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        headers.insert(ETAG, form.tag.clone());
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        // Kept, and asked for anew each time: a gateway that was updated has the page of its own.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let policy = HeaderName::from_static("content-security-policy");
        headers.insert(policy, HeaderValue::from_static(POLICY));
        let sniff = HeaderName::from_static("x-content-type-options");
        headers.insert(sniff, HeaderValue::from_static("nosniff"));
        answer
    }
}

impl Form {
    /// Whether the client says that it can read this form: by name, and not with a weight of zero.
    fn is_taken(&self, request: &HeaderMap) -> bool {
        let Some(encoding) = self.encoding else { return true };
        listed(request, ACCEPT_ENCODING).any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
            is_named && !parts.any(is_zero)
        })
    }

    /// Whether the client holds just these bytes. Of a tag that is weak it compares the text alone,
    /// as RFC 9110 has it for `If-None-Match`.
    fn is_held(&self, request: &HeaderMap) -> bool {
        listed(request, IF_NONE_MATCH).any(|tag| {
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.tag.as_bytes()
        })
    }
}

/// `q=0`, `q=0.0` and the like.
fn is_zero(weight: &str) -> bool {
    weight.strip_prefix("q=").is_some_and(|value| value.parse::<f32>().is_ok_and(|q| q == 0.0))
}

/// What a header lists with commas between, over all its lines.
fn listed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, lines: &[(HeaderName, &str)]) -> HttpResponse {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        answer(&Method::GET, path, &headers, false)
    }

    fn header(answer: &HttpResponse, name: HeaderName) -> Option<&str> {
        answer.headers().get(name).map(|value| value.to_str().unwrap())
    }

    fn encoding(accepted: &str) -> Option<String> {
        let answer = get("/assets/page.js", &[(ACCEPT_ENCODING, accepted)]);
        header(&answer, CONTENT_ENCODING).map(str::to_owned)
    }

    #[test]
    fn every_file_of_the_page_is_served_and_nothing_else() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // The description of the API, which is no part of the page.
            .filter(|name| name != "openapi.json")
            .collect();
        let mut served: Vec<String> = FILES
            .iter()
            .flat_map(|file| ["", ".br", ".gz"].map(|end| file.name.to_owned() + end))
            .collect();
        there.sort();
        served.sort();
        assert_eq!(served, there);
    }

    #[test]
    fn what_a_page_or_a_script_loads_is_served() {
        for file in FILES.iter() {
            let text = std::str::from_utf8(file.forms[2].bytes).unwrap();
            let before = if file.content_type == HTML { "\"/assets/" } else { "import(\"./" };
            for name in text.split(before).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(FILES.iter().any(|file| file.name == name), "{} loads {name}", file.name);
            }
        }
    }

    #[test]
    fn the_page_is_at_the_root_and_only_to_be_read() {
        let answered =
            |method: Method, path: &str| answer(&method, path, &HeaderMap::new(), false).status();
        assert_eq!(answered(Method::GET, "/"), StatusCode::OK);
        assert_eq!(answered(Method::GET, "/client.js"), StatusCode::OK);
        assert_eq!(answered(Method::HEAD, "/assets/page.js"), StatusCode::OK);
        assert_eq!(answered(Method::POST, "/"), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answered(Method::GET, "/assets/../Cargo.toml"), StatusCode::NOT_FOUND);
        assert_eq!(answered(Method::GET, "/assets/index.html"), StatusCode::NOT_FOUND);
        assert_eq!(answered(Method::GET, "/assets/page.js.br"), StatusCode::NOT_FOUND);
        assert_eq!(answered(Method::GET, "/page.js"), StatusCode::NOT_FOUND);
    }

    #[test]
    fn only_a_page_that_asks_for_a_token_says_so() {
        let asks = |asks_for_token| {
            let name = if asks_for_token { "index.token.html" } else { "index.html" };
            let file = FILES.iter().find(|file| file.name == name).unwrap();
            let answer = answer(&Method::GET, "/", &HeaderMap::new(), asks_for_token);
            assert_eq!(header(&answer, ETAG), file.forms[2].tag.to_str().ok());
            std::str::from_utf8(file.forms[2].bytes)
                .unwrap()
                .contains("<body data-sign-in=\"token\">")
        };
        assert_eq!([asks(true), asks(false)], [true, false]);
    }

    #[test]
    fn the_smallest_form_that_is_taken_is_sent() {
        assert_eq!(encoding("gzip, deflate, br, zstd").as_deref(), Some("br"));
        assert_eq!(encoding("GZIP;q=0.5, br;q=0").as_deref(), Some("gzip"));
        assert_eq!(encoding("br; q=0.000, deflate"), None);
        assert_eq!(encoding("brotli, *"), None);
        assert_eq!(encoding(""), None);
        let answer = get("/assets/page.js", &[]);
        assert_eq!(header(&answer, CONTENT_ENCODING), None);
        assert_eq!(header(&answer, VARY), Some("accept-encoding"));
        assert_eq!(header(&answer, CACHE_CONTROL), Some("no-cache"));
    }

    #[test]
    fn what_the_client_holds_is_not_sent_again() {
        let tag = |accepted: &str| {
            let answer = get("/", &[(ACCEPT_ENCODING, accepted)]);
            header(&answer, ETAG).unwrap().to_owned()
        };
        let (br, plain) = (tag("br"), tag("identity"));
        assert_ne!(br, plain);
        assert!(plain.starts_with('"') && plain.len() == 34, "{plain}");
        let status = |held: &str| get("/", &[(IF_NONE_MATCH, held)]).status();
        assert_eq!(status(&plain), StatusCode::NOT_MODIFIED);
        assert_eq!(status(&format!("\"other\", W/{plain}")), StatusCode::NOT_MODIFIED);
        assert_eq!(status("*"), StatusCode::NOT_MODIFIED);
        assert_eq!(status(&br), StatusCode::OK);
        assert_eq!(status(plain.trim_matches('"')), StatusCode::OK);
        let answer = get("/", &[(IF_NONE_MATCH, &plain)]);
        assert_eq!(header(&answer, ETAG), Some(plain.as_str()));
        assert_eq!(header(&answer, CONTENT_TYPE), None);
    }
}
