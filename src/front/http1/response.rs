//! A response as bytes of HTTP/1.1: its head, and how its body is framed (RFC 9112 section 6).

use http::{Method, StatusCode, Version};

use crate::answer::Written;
use crate::fields::{self, Known, RequestHead};
use crate::http1::sending::{Framing, Trailers};

/// What of a request its response depends on.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    is_head: bool,
    version: Version,
    /// It has said that it reads them (RFC 9110 section 6.5.1).
    takes_trailers: bool,
    /// The connection may carry another request after this one.
    keeps: bool,
    /// The client itself has said that nothing follows its head.
    has_said_all: bool,
}

impl Asker {
    /// What `head` asks for.
    pub fn of(head: &RequestHead) -> Self {
        let has = |name: Known, word: &[u8]| {
            head.fields.elements(name).any(|token| token.eq_ignore_ascii_case(word))
        };
        let keeps = match head.version {
            Version::HTTP_11 => !has(Known::Connection, b"close"),
            _ => has(Known::Connection, b"keep-alive") && !has(Known::Connection, b"close"),
        };
        Asker {
            is_head: head.method == Method::HEAD,
            version: head.version,
            takes_trailers: head.version == Version::HTTP_11 && has(Known::Te, b"trailers"),
            keeps,
            has_said_all: false,
        }
    }

    /// Its request has no body.
    pub fn has_no_body(&mut self) {
        self.has_said_all = !self.keeps;
    }

    /// Whether the client has promised to send nothing more.
    pub fn has_said_all(&self) -> bool {
        self.has_said_all
    }

    /// Whether another request may follow.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// What becomes of what follows a body.
    pub fn trailers(&self) -> Trailers {
        if self.takes_trailers { Trailers::Pass } else { Trailers::Drop }
    }

    /// No other request can follow.
    pub fn closes(&mut self) {
        self.keeps = false;
    }

    /// How a response is framed whose body has `length` bytes, if that is known.
    fn framing(&self, status: StatusCode, length: Option<u64>) -> Framing {
        let has_none = self.is_head
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match length {
            _ if has_none => Framing::Empty,
            Some(bytes) => Framing::Length(bytes),
            None if self.version == Version::HTTP_11 => Framing::Chunked,
            None => Framing::UntilClose,
        }
    }
}

/// Ends the head of a response with what its connection says. `asker` learns if that ends with it; `length` is the body's,
/// if that is known from the body itself.
pub fn head(written: Written, length: Option<u64>, asker: &mut Asker) -> (Vec<u8>, Framing) {
    let (status, said) = (written.status(), written.length());
    let framing = asker.framing(status, said.or(length));
    asker.keeps &= framing != Framing::UntilClose && !written.closes();
    let mut text = written.into_text();
    match framing {
        Framing::Length(bytes) if said.is_none() => {
            text.extend_from_slice(b"content-length: ");
            fields::digits(&mut text, bytes, 1);
            text.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => text.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    match (asker.keeps, asker.version) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {}
        (false, _) => text.extend_from_slice(b"connection: close\r\n"),
        (true, Version::HTTP_10) => text.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, _) => {}
    }
    text.extend_from_slice(b"\r\n");
    (text, framing)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;
    use crate::answer::Answer;
    use crate::fields::ResponseHead;

    fn written(
        request: http::request::Builder,
        response: http::response::Builder,
        length: Option<u64>,
    ) -> (String, Framing, bool) {
        let mut asker = Asker::of(&request.body(()).unwrap().into_parts().0.into());
        let written =
            Answer::from(ResponseHead::from(response.body(()).unwrap().into_parts().0)).into_parts().0;
        let (text, framing) = head(written, length, &mut asker);
        (String::from_utf8(text).unwrap(), framing, asker.keeps())
    }

    #[test]
    fn a_response_has_one_framing_and_the_client_can_read_it() {
        let get = || Request::get("/");
        let old = || Request::get("/").version(Version::HTTP_10);
        let ok = || Response::builder().header("a", "b");
        let with_length = || ok().header("content-length", "7");
        let of = |status: u16| Response::builder().status(status).header("content-length", "7");
        let cases = [
            (
                get(),
                ok(),
                Some(5),
                "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 5\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (
                get(),
                with_length(),
                None,
                "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 7\r\n\r\n",
                Framing::Length(7),
                true,
            ),
            (
                get(),
                ok(),
                None,
                "HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n",
                Framing::Chunked,
                true,
            ),
            (
                old(),
                ok(),
                None,
                "HTTP/1.1 200 OK\r\na: b\r\nconnection: close\r\n\r\n",
                Framing::UntilClose,
                false,
            ),
            (
                old().header("connection", "Keep-Alive"),
                ok(),
                Some(1),
                "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n",
                Framing::Length(1),
                true,
            ),
            (
                get().header("connection", "te, Close"),
                ok(),
                Some(0),
                "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                Framing::Length(0),
                false,
            ),
            (
                get(),
                ok().header("connection", "close").header("transfer-encoding", "chunked"),
                Some(1),
                "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 1\r\nconnection: close\r\n\r\n",
                Framing::Length(1),
                false,
            ),
            (
                Request::head("/"),
                with_length(),
                Some(0),
                "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 7\r\n\r\n",
                Framing::Empty,
                true,
            ),
            (Request::head("/"), ok(), Some(0), "HTTP/1.1 200 OK\r\na: b\r\n\r\n", Framing::Empty, true),
            (
                get(),
                of(304),
                Some(0),
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
                Framing::Empty,
                true,
            ),
            (get(), of(204), Some(0), "HTTP/1.1 204 No Content\r\n\r\n", Framing::Empty, true),
            (
                get(),
                Response::builder().status(599),
                Some(0),
                "HTTP/1.1 599 \r\ncontent-length: 0\r\n\r\n",
                Framing::Length(0),
                true,
            ),
            (
                get(),
                Response::builder().status(101).header("connection", "upgrade"),
                None,
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n",
                Framing::Empty,
                true,
            ),
        ];
        for (request, response, length, text, framing, keeps) in cases {
            assert_eq!(written(request, response, length), (text.to_owned(), framing, keeps));
        }
    }
}
