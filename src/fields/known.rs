//! The names that decide something, and those that nearly every message has.

macro_rules! known {
    ($($variant:ident = $text:literal,)*) => {
        /// The name of a field that is known here: compared by number instead of by letter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "named as the fields are")]
        pub enum Known {
            $($variant,)*
            /// Any other.
            Other,
        }

        /// In the order of [`Known`].
        const NAMES: &[&str] = &[$($text,)*];
        const KNOWN: &[Known] = &[$(Known::$variant,)*];
    };
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AcceptRanges = "accept-ranges",
    Age = "age",
    Authorization = "authorization",
    CacheControl = "cache-control",
    Close = "close",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentRange = "content-range",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expect = "expect",
    Expires = "expires",
    Forwarded = "forwarded",
    Host = "host",
    Http2Settings = "http2-settings",
    IfMatch = "if-match",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    KeepAlive = "keep-alive",
    LastModified = "last-modified",
    Location = "location",
    MaxForwards = "max-forwards",
    Origin = "origin",
    Pragma = "pragma",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthenticationInfo = "proxy-authentication-info",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Range = "range",
    Referer = "referer",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    XForwarded = "x-forwarded",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
}

/// One more than there are names, at most: each has a bit in [`Known::bit`], and the others have one together.
const COUNT_MAX: usize = 63;
const _: () = assert!(KNOWN.len() <= COUNT_MAX);

/// Places of the names by [`place`]; a second name of one place would not compile.
const PLACES: [Known; 256] = {
    let mut places = [Known::Other; 256];
    let mut index = 0;
    while index < NAMES.len() {
        let at = place(NAMES[index].as_bytes());
        assert!(matches!(places[at], Known::Other), "two names in one place: choose other factors");
        places[at] = KNOWN[index];
        index += 1;
    }
    places
};

/// The factors were found by trying: with them no two of the names meet.
const fn place(name: &[u8]) -> usize {
    let length = name.len();
    let sum = length * 221
        + name[0] as usize * 173
        + name[length - 2] as usize * 111
        + name[length / 2] as usize * 139;
    sum & 255
}

impl Known {
    /// All but [`Known::Other`], each at its number.
    pub(crate) const ALL: &[Known] = KNOWN;

    /// Which one `name` is, which is in lower case.
    #[inline]
    pub fn of(name: &[u8]) -> Known {
        if name.len() < 2 {
            return Known::Other;
        }
        let known = PLACES[place(name)];
        if known.as_bytes() == name { known } else { Known::Other }
    }

    /// In lower case; nothing for any other.
    #[inline]
    pub const fn as_str(self) -> &'static str {
        match self {
            Known::Other => "",
            known => NAMES[known as usize],
        }
    }

    /// The same.
    #[inline]
    pub const fn as_bytes(self) -> &'static [u8] {
        self.as_str().as_bytes()
    }

    /// Whether HTTP/2 has no such field in any message, `te` apart: it is about a connection (RFC 9113 §8.2.2).
    #[inline]
    pub const fn is_connection_specific(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::TransferEncoding
                | Known::Upgrade
                | Known::KeepAlive
                | Known::ProxyConnection
        )
    }

    /// Tells it from others in a set.
    #[inline]
    pub(super) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_name_is_found_and_no_other() {
        for (name, known) in NAMES.iter().zip(KNOWN) {
            assert_eq!(Known::of(name.as_bytes()), *known, "{name}");
            assert_eq!(known.as_str(), *name);
            assert_eq!(Known::of(format!("{name}x").as_bytes()), Known::Other);
            assert_eq!(Known::of(name.to_uppercase().as_bytes()), Known::Other);
        }
        for other in ["", "t", "x", "x-custom", "content-lengti"] {
            assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
        }
        assert_eq!(Known::Other.as_str(), "");
    }
}
