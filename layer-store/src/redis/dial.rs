use super::{
    dialog::{self, Dialog},
    error::DialError,
    resp::{Command, RespValue, ServerError},
    settings::Settings,
};
use crate::ConfigError;
use bytes::BytesMut;
use tokio::net::TcpStream;
pub(super) struct Dialer {
    settings: Settings,
}
pub(super) struct Greeted {
    pub(super) stream: TcpStream,
    pub(super) buffer: BytesMut,
    pub(super) resp3: bool,
}
impl Dialer {
    pub(super) fn new(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self { settings })
    }
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }
    pub(super) async fn dial(&self) -> Result<Greeted, DialError> {
        let mut stream = TcpStream::connect((self.settings.host.as_str(), self.settings.port))
            .await
            .map_err(DialError::Unreachable)?;
        stream.set_nodelay(true).map_err(DialError::Unreachable)?;
        let mut buffer = BytesMut::new();
        let mut hello = Hello(false, self.settings.password.clone());
        dialog::hold(&mut hello, &mut stream, &mut buffer).await?;
        Ok(Greeted {
            stream,
            buffer,
            resp3: true,
        })
    }
}
struct Hello(bool, Option<String>);
impl Dialog for Hello {
    type Error = ServerError;
    fn ask(&mut self, out: &mut Vec<u8>) -> usize {
        if self.0 {
            return 0;
        }
        self.0 = true;
        match &self.1 {
            Some(p) => {
                Command::new(out, "HELLO", 4)
                    .text("3")
                    .text("AUTH")
                    .text("default")
                    .text(p);
            }
            None => {
                Command::new(out, "HELLO", 1).text("3");
            }
        }
        1
    }
    fn take(&mut self, replies: Vec<RespValue>) -> Result<(), ServerError> {
        match &replies[0] {
            RespValue::Error(e) => Err(e.clone()),
            _ => Ok(()),
        }
    }
}
