//! A server's answer to a probe by gRPC has the status that a slow reader of protocol buffers finds in it.

use tidegate::upstream::probe::status_in;

pub fn holds(data: &[u8]) {
    assert_eq!(
        status_in(data),
        data.split_first_chunk::<5>().and_then(|(prefix, message)| {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
            if prefix[0] != 0 || length as usize != message.len() { None } else { read(message) }
        })
    );
    // What the fuzzer makes up is seldom as long as it says: once more with a prefix that is right.
    let length = (data.len() as u32).to_be_bytes();
    assert_eq!(status_in(&[&[0], &length[..], data].concat()), read(data));
}

/// The last value of field 1 of kind 0; `None` where the message is broken.
fn read(message: &[u8]) -> Option<u64> {
    let (mut status, mut at) = (0, 0);
    while at < message.len() {
        let (tag, after) = number(message, at)?;
        at = after;
        match tag % 8 {
            0 => {
                let (value, after) = number(message, at)?;
                at = after;
                if tag / 8 == 1 {
                    status = value;
                }
            }
            1 => at += 8,
            2 => {
                let (length, after) = number(message, at)?;
                at = after.checked_add(usize::try_from(length).ok()?)?;
            }
            5 => at += 4,
            _ => return None,
        }
        if at > message.len() {
            return None;
        }
    }
    Some(status)
}

/// At most ten bytes, seven bits each, and where it ends. What does not fit into 64 bits is lost.
fn number(message: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut number: u128 = 0;
    for nth in 0..10 {
        let byte = *message.get(start + nth)?;
        number |= u128::from(byte & 0x7f) << (7 * nth);
        if byte < 0x80 {
            return Some((number as u64, start + nth + 1));
        }
    }
    None
}
