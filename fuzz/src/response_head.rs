//! What the guard lets pass of a server's response reaches the client as exactly one head, which frames nothing by itself;
//! and an interim response is whole, has no body and is followed by nothing.

use http::Version;
use httparse::{EMPTY_HEADER, Status};
use tidegate::answer::Answer;
use tidegate::fields::ResponseHead;
use tidegate::filter::forward::{RequestId, interim_to_client, to_client};
use tidegate::filter::guard::check_response;
use tidegate::http1::text;

use super::head;

/// Fields of the server's connection, or ours to say.
const NEVER: [&str; 9] = [
    "keep-alive",
    "transfer-encoding",
    "te",
    "http2-settings",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "connection",
    "upgrade",
];

pub fn holds(data: &[u8]) {
    let Some(head) = head::response(data) else { return };
    for wants_websocket in [false, true] {
        if check_response(&head, wants_websocket).is_ok() {
            assert!(wants_websocket || head.status != 101);
            assert!((200..600).contains(&head.status.as_u16()) || head.status == 101);
            is_one_final_head(&head);
        }
    }
    if head.status.is_informational() && head.status != 101 {
        is_one_interim_head(&head);
    }
}

fn is_one_final_head(head: &ResponseHead) {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let wire = written(to_client(head, version, &RequestId::Theirs(b"id"[..].into())));
        let mut fields = [EMPTY_HEADER; 256];
        let mut read = httparse::Response::new(&mut fields);

        let length = read.parse(&wire).expect("what we write is a head");

        assert_eq!(length, Status::Complete(wire.len()), "one head and nothing behind it");
        assert_eq!(read.code, Some(head.status.as_u16()));
        let one = |name: &str| head::found(read.headers, name);
        assert!(one("content-length").len() <= 1);
        assert!(one("content-length").iter().all(|length| length.iter().all(u8::is_ascii_digit)));
        assert!(![101, 204].contains(&head.status.as_u16()) || one("content-length").is_empty());
        let is_switching = head.status == 101 && version == Version::HTTP_11;
        let of_connection = if is_switching { &NEVER[..7] } else { &NEVER[..] };
        of_connection.iter().for_each(|name| assert!(one(name).is_empty(), "{name}"));
        assert!(!is_switching || one("upgrade") == [b"websocket"] && one("connection") == [b"upgrade"]);
        assert_eq!(one("x-request-id"), [b"id"]);
        names_nothing(head, read.headers);
    }
}

/// As its connection writes it, and then ends it. What HTTP/2 reads of it is what is there.
fn written(answer: Answer) -> Vec<u8> {
    let head = answer.into_parts().0;
    let lines = head.fields().map(|field| field.line().to_vec()).collect::<Vec<_>>().concat();
    let text = head.into_text();
    let line_end = text.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
    assert_eq!(lines, text[line_end..]);
    [&text[..], b"\r\n"].concat()
}

/// What `Connection` names does not pass.
fn names_nothing(head: &ResponseHead, sent: &[httparse::Header<'_>]) {
    for name in head::elements(&head.fields, "connection") {
        // What is no text is the name of nothing.
        let Ok(name) = String::from_utf8(name) else { continue };
        let is_kept = ["connection", "close", "keep-alive", "upgrade", "te", "via", "x-request-id"];
        // A length that is named is said all the same: without it, the end of the body could not be told.
        assert!(
            is_kept.contains(&name.as_str())
                || name == "content-length"
                || head::found(sent, &name).is_empty()
        );
    }
}

fn is_one_interim_head(head: &ResponseHead) {
    let mut wire = Vec::new();
    text::interim(&mut wire, head.status, &interim_to_client(&head.fields));
    let mut fields = vec![EMPTY_HEADER; 4096];
    let mut read = httparse::Response::new(&mut fields);
    match read.parse(&wire) {
        Ok(length) => assert_eq!(length, Status::Complete(wire.len()), "one head and nothing behind it"),
        Err(httparse::Error::TooManyHeaders) => return,
        Err(error) => panic!("what we write is a head: {error}"),
    }
    assert_eq!(read.code, Some(head.status.as_u16()));
    for name in NEVER.iter().chain(&["content-length", "x-request-id"]) {
        assert!(head::found(read.headers, name).is_empty(), "{name}");
    }
}
