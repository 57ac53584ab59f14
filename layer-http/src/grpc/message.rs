//! The messages in the body of a call: a byte that tells if it is compressed, four of its length, and the message
//! (PROTOCOL-HTTP2, "Length-Prefixed-Message").

/// One message of a call, without the five bytes in front of it.
///
/// ```
/// use layer_http::grpc::Message;
///
/// let message = Message::only_one_in(b"\0\0\0\0\x02hi").unwrap();
/// assert_eq!((message.bytes, message.is_compressed), (&b"hi"[..], false));
/// // Two messages, of which the second is empty.
/// assert!(Message::only_one_in(b"\0\0\0\0\x02hi\0\0\0\0\0").is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message. If it is compressed, these are the compressed bytes.
    pub bytes: &'a [u8],
    /// True if it is compressed, as `grpc-encoding` says.
    pub is_compressed: bool,
}

impl<'a> Message<'a> {
    /// Reads the body of a unary call. `None` if there is not exactly one whole message in it.
    pub fn only_one_in(body: &'a [u8]) -> Option<Self> {
        let (prefix, bytes) = body.split_first_chunk::<PREFIX>()?;
        let (is_compressed, length) = read(*prefix);
        (bytes.len() as u64 == length).then_some(Self {
            bytes,
            is_compressed,
        })
    }
}

/// Counts the messages of a body while its bytes come, in any pieces.
///
/// For a layer that handles unary calls alone, and has to know early that a call is another.
///
/// ```
/// use layer_http::grpc::MessageCount;
///
/// let mut count = MessageCount::default();
/// count.add(b"\0\0\0\0\x02h");
/// assert_eq!((count.begun(), count.is_whole()), (1, false));
/// count.add(b"i\0");
/// assert_eq!((count.begun(), count.is_whole()), (2, false));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageCount {
    begun: usize,
    prefix: [u8; PREFIX],
    /// How much of the prefix is there.
    read: usize,
    /// How much of the message is to come, if the prefix is there.
    left: u64,
}

impl MessageCount {
    /// Counts on through the next bytes.
    pub fn add(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            match self.left {
                0 => data = self.add_to_prefix(data),
                left => {
                    let taken = left.min(data.len() as u64);
                    self.left -= taken;
                    data = &data[taken as usize..];
                }
            }
        }
    }

    /// Returns how many messages have begun.
    pub const fn begun(&self) -> usize {
        self.begun
    }

    /// Returns true if the bytes so far end with a message, or there are none.
    pub const fn is_whole(&self) -> bool {
        self.read == 0 && self.left == 0
    }

    /// Returns true if the bytes so far are one whole message: the body of a unary call.
    pub const fn is_one(&self) -> bool {
        self.begun == 1 && self.is_whole()
    }

    fn add_to_prefix<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        if self.read == 0 {
            self.begun += 1;
        }
        let (taken, rest) = data.split_at(data.len().min(PREFIX - self.read));
        self.prefix[self.read..][..taken.len()].copy_from_slice(taken);
        self.read += taken.len();
        if self.read == PREFIX {
            (_, self.left) = read(self.prefix);
            self.read = 0;
        }
        rest
    }
}

fn read([flag, length @ ..]: [u8; PREFIX]) -> (bool, u64) {
    (flag != 0, u32::from_be_bytes(length).into())
}

/// In bytes.
const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for message in messages {
            body.push(0);
            body.extend_from_slice(&(message.len() as u32).to_be_bytes());
            body.extend_from_slice(message);
        }
        body
    }

    #[test]
    fn one_whole_message_and_nothing_else_is_unary() {
        for (body, message) in [
            (&b"\0\0\0\0\0"[..], Some((&b""[..], false))),
            (b"\x01\0\0\0\x01x", Some((b"x", true))),
            (b"", None),
            (b"\0\0\0\0", None),
            (b"\0\0\0\0\x02x", None),
            (b"\0\0\0\0\0\0", None),
            (b"\0\xff\xff\xff\xffx", None),
        ] {
            let read = Message::only_one_in(body);
            let read = read.map(|message| (message.bytes, message.is_compressed));
            assert_eq!(read, message, "{body:?}");
            let mut count = MessageCount::default();
            count.add(body);
            assert_eq!(count.is_one(), message.is_some(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_are_counted_in_whatever_pieces_they_come(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..5),
            piece in 1_usize..8,
        ) {
            let mut count = MessageCount::default();
            let body = body(&messages);
            for data in body.chunks(piece) {
                count.add(data);
            }
            prop_assert_eq!(count.begun(), messages.len());
            prop_assert!(count.is_whole());
            if let Some((_, cut)) = body.split_last() {
                let mut count = MessageCount::default();
                count.add(cut);
                prop_assert!(!count.is_whole());
            }
        }
    }
}
