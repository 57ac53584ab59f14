use super::{
    dialog::Dialog,
    features::Features,
    resp::{Command, RespValue, ServerError},
};
pub(super) struct Facts {
    pub(super) features: Features,
    pub(super) incarnation: Option<u64>,
}
pub(super) struct Inspection {
    asked: bool,
    incarnation: Option<u64>,
}
impl Inspection {
    pub(super) fn new(_resp3: bool) -> Self {
        Self {
            asked: false,
            incarnation: None,
        }
    }
    pub(super) fn into_facts(self) -> Facts {
        Facts {
            features: Features::default(),
            incarnation: self.incarnation,
        }
    }
}
impl Dialog for Inspection {
    type Error = ServerError;
    fn ask(&mut self, out: &mut Vec<u8>) -> usize {
        if self.asked {
            return 0;
        }
        self.asked = true;
        Command::new(out, "INFO", 1).text("server");
        1
    }
    fn take(&mut self, replies: Vec<RespValue>) -> Result<(), ServerError> {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let text = replies[0].to_text().unwrap_or_default();
        self.incarnation = text
            .lines()
            .find_map(|l| l.strip_prefix("run_id:"))
            .map(|id| BuildHasherDefault::<DefaultHasher>::default().hash_one(id));
        Ok(())
    }
}
