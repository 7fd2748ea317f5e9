//! What a daemon serves.

use super::process::{Running, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The address that a daemon serves, which it says in its log.
pub(crate) fn address(daemon: &mut Running) -> SocketAddr {
    daemon.says("serving /metrics");
    let log = daemon.err();
    let line = log.lines().find(|line| line.contains("serving /metrics")).unwrap();
    let told = line.split_once("address=").unwrap().1;
    told.split_whitespace().next().unwrap().parse().unwrap()
}

/// The body of a GET that must succeed.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    try_get(address, path).unwrap_or_else(|| panic!("http://{address}{path}"))
}

/// The body of a GET, where somebody answers well.
pub(crate) fn try_get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    // Of this version the body is not cut into pieces.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
}

/// The value of one series.
pub(crate) fn value(metrics: &str, series: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Scrapes until a series has a value.
pub(crate) fn await_value(address: SocketAddr, series: &str, wanted: f64) -> String {
    let mut last = String::new();
    eventually(&format!("{series} {wanted}"), || {
        last = get(address, "/metrics");
        value(&last, series) == Some(wanted)
    });
    last
}
