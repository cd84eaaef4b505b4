//! The plan of a test: which operation fails, and how.

use crate::operation::{Cause, Failure, Kind, Operation};

/// What happens at the operation that is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing; what comes after it works.
    Error,
    /// Half of what it writes is written, and it fails; what comes after it works.
    Torn,
    /// From now on no file can grow, until [`crate::Disk::mend`].
    Full,
    /// The same, but only the next sync of a file that should have grown reports it: until then everything seems to
    /// be written (delayed allocation, a quota, a network file system).
    FullAtSync,
    /// From now on the same kind of operation on the same file fails, until [`crate::Disk::mend`].
    Broken,
    /// Half of what it writes is written; after that nothing reaches the disk any more. The program sees every
    /// operation fail; a test continues with [`crate::Disk::restart_into`].
    Off,
}

/// Which operations fail, and how many have.
#[derive(Default)]
pub(crate) struct Faults {
    plan: Option<Plan>,
    struck: Option<Operation>,
    /// What fails until the disk is fixed.
    lasting: Option<Lasting>,
    writes: u64,
    refused: u64,
}

struct Plan {
    fault: Fault,
    /// So many more of them pass.
    passes: u64,
    concerns: Box<dyn Fn(&Operation) -> bool + Send>,
}

#[derive(PartialEq, Eq)]
enum Lasting {
    Full,
    FullAtSync,
    Broken(Kind, String),
    Off,
}

/// How much room an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// None that was not taken before.
    Same,
    /// More than before.
    More,
}

/// What is to be done with an operation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    Go,
    /// Nothing is done.
    Fail(Failure),
    /// The first half is done.
    Half(Failure),
}

impl Faults {
    pub(crate) fn plan(
        &mut self,
        nth: u64,
        fault: Fault,
        concerns: impl Fn(&Operation) -> bool + Send + 'static,
    ) {
        self.plan = Some(Plan { fault, passes: nth - 1, concerns: Box::new(concerns) });
        self.struck = None;
    }

    pub(crate) fn mend(&mut self) {
        self.lasting = None;
        self.plan = None;
    }

    pub(crate) fn struck(&self) -> Option<&Operation> {
        self.struck.as_ref()
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// An operation fails that was not judged to: whoever does it is told of an earlier failure.
    pub(crate) fn count_refused(&mut self) {
        self.refused += 1;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.lasting == Some(Lasting::Off)
    }

    /// Counts the operation and decides about it.
    pub(crate) fn judge(&mut self, operation: &Operation, room: Room) -> Treatment {
        if operation.is_write() {
            self.writes += 1;
        }
        let treatment = match self.strike(operation) {
            None => self.lasting_treatment(operation, room),
            Some(fault) => self.begin(fault, operation, room),
        };
        if treatment != Treatment::Go {
            self.refused += 1;
        }
        treatment
    }

    /// The fault of the plan, if it is this operation's turn.
    fn strike(&mut self, operation: &Operation) -> Option<Fault> {
        let plan = self.plan.as_mut().filter(|plan| (plan.concerns)(operation))?;
        if plan.passes > 0 {
            plan.passes -= 1;
            return None;
        }
        let fault = plan.fault;
        self.plan = None;
        self.struck = Some(operation.clone());
        Some(fault)
    }

    /// The treatment of the operation that is struck.
    fn begin(&mut self, fault: Fault, operation: &Operation, room: Room) -> Treatment {
        let broken = Failure { kind: operation.kind, cause: Cause::Broken };
        match fault {
            Fault::Error => Treatment::Fail(broken),
            Fault::Torn => Treatment::Half(broken),
            Fault::Broken => {
                self.lasting = Some(Lasting::Broken(operation.kind, operation.file.clone()));
                Treatment::Fail(broken)
            }
            Fault::Off => {
                self.lasting = Some(Lasting::Off);
                Treatment::Half(broken)
            }
            Fault::FullAtSync => {
                self.lasting = Some(Lasting::FullAtSync);
                self.lasting_treatment(operation, room)
            }
            Fault::Full => {
                self.lasting = Some(Lasting::Full);
                match self.lasting_treatment(operation, room) {
                    Treatment::Fail(full) => Treatment::Half(full),
                    treatment => treatment,
                }
            }
        }
    }

    fn lasting_treatment(&self, operation: &Operation, room: Room) -> Treatment {
        let kind = operation.kind;
        let cause = match &self.lasting {
            Some(Lasting::Off) if kind.is_write() => Cause::Broken,
            Some(Lasting::Full) if room == Room::More && kind != Kind::Sync => Cause::Full,
            Some(Lasting::FullAtSync) if room == Room::More && kind == Kind::Sync => Cause::Full,
            Some(Lasting::Broken(broken, file)) if (*broken, file) == (kind, &operation.file) => {
                Cause::Broken
            }
            _ => return Treatment::Go,
        };
        Treatment::Fail(Failure { kind, cause })
    }
}
