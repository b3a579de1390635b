//! Who may ask, and whether the description names what there is.

use hyper::header::HeaderValue;

use super::*;

#[test]
fn only_names_of_this_machine_are_loopback() {
    for good in
        ["localhost", "LOCALHOST:3001", "127.0.0.1", "127.0.0.1:3001", "[::1]:3001", "[::1]"]
    {
        assert!(is_loopback(good), "{good}");
    }
    for bad in
        ["", "evil.example", "localhost.evil.example:3001", "10.0.0.1", "127.0.0.1.evil", ":3"]
    {
        assert!(!is_loopback(bad), "{bad}");
    }
}

#[test]
fn without_keys_only_the_development_mode_is_open() {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("127.0.0.1:3001"));
    assert!(open_to(true, &headers).is_ok());
    assert_eq!(open_to(false, &headers).unwrap_err().answer().status(), 403);
    headers.insert(HOST, HeaderValue::from_static("evil.example"));
    assert_eq!(open_to(true, &headers).unwrap_err().answer().status(), 403);
    assert_eq!(open_to(true, &HeaderMap::new()).unwrap_err().answer().status(), 403);
}
