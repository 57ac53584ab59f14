pub(super) use self::error::GreetingError;
use self::error::has_no_password;
use crate::{
    Credentials,
    redis::{
        dialog::Dialog,
        resp::{Command, RespValue},
        settings::RespVersion,
    },
};

mod error;

/// The first commands on a connection: the version of RESP, who we are, and the database. Without I/O.
///
/// | Version | Commands, in one round trip |
/// | --- | --- |
/// | RESP3 | `HELLO 3 [AUTH user password]`, `[SELECT db]` |
/// | RESP2 | `[AUTH [user] password]`, `[SELECT db]`, or `PING` if there is nothing to say |
///
/// The `PING` finds a server that is not Redis, or wants a password.
pub(super) struct Greeting<'a> {
    version: RespVersion,
    credentials: Option<&'a Credentials>,
    db: u32,
    state: State,
    password_is_unused: bool,
}

enum State {
    /// Nothing was said yet, or it has to be said again.
    Asking,
    /// These commands wait for their replies.
    Waiting(Vec<&'static str>),
    Done,
}

impl<'a> Greeting<'a> {
    pub(super) const fn new(
        version: RespVersion,
        credentials: Option<&'a Credentials>,
        db: u32,
    ) -> Self {
        Self {
            version,
            credentials,
            db,
            state: State::Asking,
            password_is_unused: false,
        }
    }

    /// Returns true if the server said that it has no password, and we have one.
    pub(super) const fn password_is_unused(&self) -> bool {
        self.password_is_unused
    }

    fn write(&self, out: &mut Vec<u8>) -> Vec<&'static str> {
        let mut sent = Vec::with_capacity(2);
        match (self.version, self.credentials) {
            (RespVersion::Three, None) => {
                Command::new(out, HELLO, 1).text("3");
                sent.push(HELLO);
            }
            (RespVersion::Three, Some(credentials)) => {
                Command::new(out, HELLO, 4)
                    .text("3")
                    .text(AUTH)
                    .text(credentials.username().unwrap_or(DEFAULT_USER))
                    .text(credentials.secret());
                sent.push(HELLO);
            }
            (RespVersion::Two, None) => {}
            (RespVersion::Two, Some(credentials)) => {
                // Servers before Redis 6 have the default user alone, and no name for it.
                let user = credentials.username().filter(|user| *user != DEFAULT_USER);
                let mut command = Command::new(out, AUTH, 1 + usize::from(user.is_some()));
                if let Some(user) = user {
                    command.text(user);
                }
                command.text(credentials.secret());
                sent.push(AUTH);
            }
        }
        if self.db != 0 {
            Command::new(out, SELECT, 1).unsigned(self.db.into());
            sent.push(SELECT);
        }
        if sent.is_empty() {
            Command::new(out, PING, 0);
            sent.push(PING);
        }
        sent
    }

    /// Takes the reply to one command. Returns the next state if the others do not matter any more.
    fn check(
        &mut self,
        command: &'static str,
        reply: &RespValue,
    ) -> Result<Option<State>, GreetingError> {
        match (command, reply) {
            // ## Waiting => Asking, without the password that the server has no use for
            //
            // `AUTH` by itself has done no harm. A `HELLO` with it has not been obeyed.
            (HELLO | AUTH, RespValue::Error(error))
                if self.credentials.is_some() && has_no_password(error) =>
            {
                self.password_is_unused = true;
                self.credentials = None;
                Ok((command == HELLO).then_some(State::Asking))
            }
            // Only Redis says so, and only to a user that it knows.
            (PING, RespValue::Error(error)) if error.code() == "NOPERM" => Ok(None),
            (_, RespValue::Error(error)) => {
                Err(GreetingError::refused(command, error, self.credentials))
            }
            (HELLO, reply) if is_version_3(reply) => Ok(None),
            (AUTH | SELECT, reply) if reply.is_status("OK") => Ok(None),
            (PING, reply) if reply.to_text().is_some_and(|text| text == "PONG") => Ok(None),
            _ => Err(GreetingError::Unexpected { command }),
        }
    }
}

impl Dialog for Greeting<'_> {
    type Error = GreetingError;

    fn ask(&mut self, out: &mut Vec<u8>) -> usize {
        if let State::Done = self.state {
            return 0;
        }
        let sent = self.write(out);
        let commands = sent.len();
        self.state = State::Waiting(sent);
        commands
    }

    fn take(&mut self, replies: Vec<RespValue>) -> Result<(), GreetingError> {
        let State::Waiting(sent) = std::mem::replace(&mut self.state, State::Done) else {
            return Ok(());
        };
        for (command, reply) in sent.into_iter().zip(&replies) {
            if let Some(state) = self.check(command, reply)? {
                self.state = state;
                break;
            }
        }
        Ok(())
    }
}

/// Returns true for the reply to `HELLO 3`: a map, read as an array, in which the server names this version.
fn is_version_3(reply: &RespValue) -> bool {
    let RespValue::Array(fields) = reply else {
        return false;
    };
    fields.chunks_exact(2).any(|field| {
        field[0].to_text().is_some_and(|name| name == "proto") && field[1] == RespValue::Int(3)
    })
}

pub(super) const HELLO: &str = "HELLO";
const AUTH: &str = "AUTH";
const SELECT: &str = "SELECT";
const PING: &str = "PING";
const DEFAULT_USER: &str = "default";

#[cfg(test)]
mod tests;
