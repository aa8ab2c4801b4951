//! HTTP/1.1 messages as text: read whole, byte for byte, for origins and clients alike.

use std::io::{self, BufRead, Read};

/// A request or a response.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The request line or the status line.
    pub first: String,
    /// In the order and with the case received.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// How many messages came before it on its connection (origins only).
    pub nth: usize,
}

impl Message {
    #[track_caller]
    pub fn status(&self) -> u16 {
        let word = self.first.split(' ').nth(1).unwrap_or_default();
        word.parse().unwrap_or_else(|_| panic!("not a status line: {:?}", self.first))
    }

    pub fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.field("content-length").and_then(|value| value.parse().ok())
    }
}

/// A head; `None` when the connection ended before its first byte.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<Message>> {
    let Some(first) = read_line(from)? else { return Ok(None) };
    Ok(Some(Message { first, fields: read_fields(from)?, ..Message::default() }))
}

/// The body of a request, as its head says.
pub fn read_request_body(from: &mut impl BufRead, message: &mut Message) -> io::Result<()> {
    if message.is_chunked() {
        return read_chunked(from, message);
    }
    read_exactly(from, message, message.length().unwrap_or(0))
}

/// The body of a response: by its status, its framing, or the end of the connection.
pub fn read_response_body(from: &mut impl BufRead, message: &mut Message) -> io::Result<()> {
    let status = message.status();
    if status < 200 || status == 204 || status == 304 {
        return Ok(());
    }
    if message.is_chunked() {
        return read_chunked(from, message);
    }
    match message.length() {
        Some(length) => read_exactly(from, message, length),
        None => from.read_to_end(&mut message.body).map(drop),
    }
}

fn read_exactly(from: &mut impl BufRead, message: &mut Message, length: u64) -> io::Result<()> {
    from.take(length).read_to_end(&mut message.body)?;
    if message.body.len() as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_chunked(from: &mut impl BufRead, message: &mut Message) -> io::Result<()> {
    loop {
        let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
        if size == 0 {
            message.trailers = read_fields(from)?;
            return Ok(());
        }
        let target = message.body.len() as u64 + size;
        from.take(size).read_to_end(&mut message.body)?;
        if message.body.len() as u64 != target || read_line(from)?.as_deref() != Some("") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn read_fields(from: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}
