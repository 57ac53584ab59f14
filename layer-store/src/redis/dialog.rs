use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::resp::{Malformed, Parser, RespValue};

/// The commands on a new connection before the first call: a greeting, or an inspection of the server. Without I/O.
pub(super) trait Dialog {
    type Error;

    /// Appends the next commands to `out`, and returns their number. 0 ends the dialog.
    fn ask(&mut self, out: &mut Vec<u8>) -> usize;

    /// Takes the replies to these commands, in their order.
    ///
    /// # Errors
    ///
    /// The dialog cannot go on.
    fn take(&mut self, replies: Vec<RespValue>) -> Result<(), Self::Error>;
}

/// The end of a connection during a dialog.
#[derive(Debug)]
pub(super) enum DialogError<E> {
    Io(io::Error),
    /// The server sent something that is not RESP.
    Malformed(Malformed),
    /// The dialog itself ended with this.
    Ended(E),
}

/// Holds a dialog over a stream. Bytes that come after the last reply stay in `buffer`. Pushes are left out.
///
/// # Cancel safety
///
/// The connection is of no use after the future was dropped.
pub(super) async fn hold<D: Dialog>(
    dialog: &mut D,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buffer: &mut BytesMut,
) -> Result<(), DialogError<D::Error>> {
    let mut parser = Parser::default();
    let mut out = Vec::new();
    loop {
        out.clear();
        let commands = dialog.ask(&mut out);
        if commands == 0 {
            return Ok(());
        }
        stream.write_all(&out).await.map_err(DialogError::Io)?;
        stream.flush().await.map_err(DialogError::Io)?;
        let mut replies = Vec::with_capacity(commands);
        while replies.len() < commands {
            match parser.next(buffer).map_err(DialogError::Malformed)? {
                Some(RespValue::Push(_)) => {}
                Some(reply) => replies.push(reply),
                None => {
                    let read = stream.read_buf(buffer).await.map_err(DialogError::Io)?;
                    if read == 0 {
                        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
                        return Err(DialogError::Io(eof));
                    }
                }
            }
        }
        dialog.take(replies).map_err(DialogError::Ended)?;
    }
}
