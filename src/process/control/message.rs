//! The lines of the control socket.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the requests.
const VERSION: u32 = 1;

/// A request, the first line of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Read the home again and answer with the result.
    Reload,
    /// Send the listeners as descriptors.
    TakeOver,
    /// The next server is ready to serve; follows [`ControlRequest::TakeOver`] on its connection.
    Ready,
}

/// The words of the requests.
const WORDS: [(ControlRequest, &str); 3] = [
    (ControlRequest::Reload, "reload"),
    (ControlRequest::TakeOver, "take-over"),
    (ControlRequest::Ready, "ready"),
];

#[derive(Serialize, Deserialize)]
struct RequestLine {
    v: u32,
    #[serde(rename = "do")]
    action: String,
}

impl ControlRequest {
    /// Returns the line of the request, its end included.
    pub fn to_line(self) -> Vec<u8> {
        let word = WORDS.iter().find(|(request, _)| *request == self);
        let (_, word) = word.expect("every request has a word");
        to_line(&RequestLine {
            v: VERSION,
            action: (*word).to_owned(),
        })
    }

    /// Parses a line. The error describes the fault to the client.
    pub fn parse(line: &[u8]) -> Result<ControlRequest, String> {
        let line: RequestLine = serde_json::from_slice(line)
            .map_err(|error| format!("not a request of the control socket: {error}"))?;
        if line.v != VERSION {
            return Err(format!(
                "requests of version {} are not supported; expected version {VERSION}",
                line.v
            ));
        }
        let mut words = WORDS.iter();
        let found = words.find(|(_, word)| *word == line.action);
        found.map(|(request, _)| *request).ok_or_else(|| {
            format!(
                "unknown request {:?}; expected reload or take-over",
                line.action
            )
        })
    }
}

/// One line of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlAnswer {
    /// The last line: everything was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// The last line: the reason of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A part of the home that was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// A part of the home that is valid, but probably not intended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The names of the descriptors that come with the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Vec<String>>,
}

impl ControlAnswer {
    /// The last line of a success.
    pub fn end() -> ControlAnswer {
        ControlAnswer {
            end: true,
            ..ControlAnswer::default()
        }
    }

    /// The last line of a failure.
    pub fn error(why: impl Into<String>) -> ControlAnswer {
        ControlAnswer {
            error: Some(why.into()),
            ..ControlAnswer::default()
        }
    }

    /// A part that was not applied.
    pub fn fault(what: impl Into<String>) -> ControlAnswer {
        ControlAnswer {
            fault: Some(what.into()),
            ..ControlAnswer::default()
        }
    }

    /// A warning.
    pub fn warning(what: impl Into<String>) -> ControlAnswer {
        ControlAnswer {
            warning: Some(what.into()),
            ..ControlAnswer::default()
        }
    }

    /// The names of descriptors.
    pub fn sockets(names: Vec<String>) -> ControlAnswer {
        ControlAnswer {
            sockets: Some(names),
            ..ControlAnswer::default()
        }
    }

    /// Returns the line of the answer, its end included.
    pub fn to_line(&self) -> Vec<u8> {
        to_line(self)
    }

    /// Parses a line.
    ///
    /// # Errors
    /// If it is not an answer, which is the case for the first bytes of a server of version 0.1.0.
    pub fn parse(line: &[u8]) -> io::Result<ControlAnswer> {
        parse(line).map_err(|_| {
            io::Error::other(
                "it does not speak this version of the control protocol; stop it and start the new \
                 one",
            )
        })
    }
}

fn to_line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("strings and numbers have a JSON form");
    line.push(b'\n');
    line
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_lines_of_json() {
        assert_eq!(
            ControlRequest::TakeOver.to_line(),
            b"{\"v\":1,\"do\":\"take-over\"}\n"
        );
        for request in [
            ControlRequest::Reload,
            ControlRequest::TakeOver,
            ControlRequest::Ready,
        ] {
            assert_eq!(ControlRequest::parse(&request.to_line()), Ok(request));
        }
        assert_eq!(ControlAnswer::end().to_line(), b"{\"end\":true}\n");
        let quoted = ControlAnswer::error("a \"b\"\n\u{1b}");
        assert_eq!(quoted.to_line(), b"{\"error\":\"a \\\"b\\\"\\n\\u001b\"}\n");
        assert_eq!(ControlAnswer::parse(&quoted.to_line()).unwrap(), quoted);
        // Later versions may add members.
        let later = br#"{"end":true,"took":3}"#;
        assert_eq!(ControlAnswer::parse(later).unwrap(), ControlAnswer::end());
        assert!(ControlRequest::parse(br#"{"v":1,"do":"reload","for":"x"}"#).is_ok());
    }

    #[test]
    fn faulty_requests_are_explained() {
        for (line, expected) in [
            (&b""[..], "not a request of the control socket"),
            (b"GET / HTTP/1.1", "not a request of the control socket"),
            (b"{\"do\":\"reload\"}", "missing field `v`"),
            (b"{\"v\":2,\"do\":\"reload\"}", "requests of version 2"),
            (b"{\"v\":1,\"do\":\"stop\"}", "unknown request \"stop\""),
            (b"\xff", "not a request of the control socket"),
        ] {
            let error = ControlRequest::parse(line).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(ControlAnswer::parse(b"\0mf").is_err());
    }
}
