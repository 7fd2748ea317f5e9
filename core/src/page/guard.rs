//! What every answer of the page is guarded with.
//!
//! Nothing here changes anything, so what there is to guard is what it shows: paths, figures, samples of the probe. On a
//! loopback address only this machine may ask; a web page whose own name is made to point to that address
//! (DNS rebinding) would be one of its origin, and is told by that name.

use super::refusal::Refusal;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};

/// Scripts and styles from here alone, and no other host at all.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// The routes of a server at an address.
pub(super) fn guarded(routes: Router, address: SocketAddr) -> Router {
    routes.layer(middleware::from_fn(move |request: Request, next: Next| async move {
        let mut response = match names_another_host(request.headers(), address) {
            true => Refusal::misdirected(format!(
                "this server is for its own machine alone; open http://{address}/"
            ))
            .into_response(),
            false => next.run(request).await,
        };
        guard(response.headers_mut());
        response
    }))
}

/// What an answer says of itself stays.
fn guard(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Whether a request to a loopback address came under a name that is not of this machine.
fn names_another_host(headers: &HeaderMap, address: SocketAddr) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.filter(|_| address.ip().is_loopback()) else { return false };
    let host = host.parse::<Authority>().map(|authority| authority.host().to_owned());
    let host = host.unwrap_or_default().to_ascii_lowercase();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let is_own =
        literal.parse::<IpAddr>().is_ok() || host == "localhost" || host.ends_with(".localhost");
    !is_own
}

/// For a page that brings its style along.
pub(super) fn allow_own_style(page: String) -> Response {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], axum::response::Html(page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_address_asks_for_its_own_name() {
        let asks = |host: &'static str, address: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            names_another_host(&headers, address.parse().unwrap())
        };
        let loopback = "127.0.0.1:9464";
        for own in ["127.0.0.1:9464", "localhost:80", "LOCALHOST", "[::1]:9464", "a.localhost"] {
            assert!(!asks(own, loopback), "{own}");
        }
        for other in ["evil.example:9464", "127.0.0.1.evil.example", "localhost.evil", "", "::"] {
            assert!(asks(other, loopback), "{other}");
        }
        assert!(!asks("train-3.example:9464", "0.0.0.0:9464"));
        assert!(!names_another_host(&HeaderMap::new(), loopback.parse().unwrap()), "HTTP/1.0");
    }
}
