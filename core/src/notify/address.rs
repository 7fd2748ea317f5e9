//! The address of a webhook, which may be a secret as a whole.

use std::fmt;
use std::str::FromStr;
use ureq::http::Uri;

/// An http or https URL. What is shown of it is its origin.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Uri);

/// Why a text is no address; the text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no http or https URL with a host; write one such as `https://example.org/hook`")]
pub struct BadAddress;

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let uri: Uri = text.trim().parse().map_err(|_| BadAddress)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if is_http && has_host { Ok(Self(uri)) } else { Err(BadAddress) }
    }
}

impl Address {
    /// The whole of it.
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// A message without what it repeats of the address.
    pub(super) fn hide_in(&self, message: &str) -> String {
        let userinfo = self.0.authority().and_then(|all| all.as_str().rsplit_once('@'));
        let parts = [Some(self.0.to_string()), userinfo.map(|(user, _)| user.to_owned())];
        let rest = self.0.path_and_query().map(|rest| rest.as_str().to_owned());
        let secrets = parts.into_iter().chain([rest]).flatten().filter(|part| part.len() > 1);
        secrets.fold(message.to_owned(), |message, part| message.replace(&part, "…"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.0.scheme_str(), self.0.host());
        write!(f, "{}://{}", scheme.unwrap_or_default(), host.unwrap_or_default())?;
        self.0.port_u16().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_origin_of_an_address_is_shown() {
        let text = "https://user:word@hooks.example.org:8443/services/T0/secret?token=more";
        let address: Address = text.parse().expect("an address");
        assert_eq!(
            format!("{address} {address:?}"),
            "https://hooks.example.org:8443 https://hooks.example.org:8443"
        );
        let hidden =
            address.hide_in(&format!("bad uri: {text}, path /services/T0/secret?token=more"));
        assert_eq!(hidden, "bad uri: …, path …");
        for bad in
            ["", "hooks.example.org", "ftp://example.org/x", "https:///x", "file:///etc/passwd"]
        {
            assert_eq!(bad.parse::<Address>(), Err(BadAddress), "{bad}");
        }
    }
}
