//! What collectors ask a server, and what rows become: made once, the same for every target with the same collectors. A
//! process may have a thousand targets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::fast::RandomState;

use crate::options::Compat;
use crate::read::{Read, Statement, Wanted};
use crate::sql::{Columns, Form, PgCollector};

/// The plans of a set of collectors.
pub(crate) struct Plans {
    collectors: Vec<&'static PgCollector>,
    compat: Compat,
    /// Statements that are put together, by the description of a part.
    statements: ByPlace<Arc<Statement>>,
    /// Statements that are written, by the function.
    texts: ByPlace<Arc<str>>,
    /// What rows become, by the description of the columns.
    forms: ByPlace<Arc<Form>>,
}

/// By the address of a `static`, and by major version.
type ByPlace<T> = Mutex<HashMap<(usize, u32), T, RandomState>>;

/// Those that targets have.
static KNOWN: Mutex<Vec<Weak<Plans>>> = Mutex::new(Vec::new());

impl Plans {
    /// The plans of these collectors, which other targets may have, too.
    pub(crate) fn of(collectors: &[&'static PgCollector], compat: Compat) -> Arc<Plans> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|plans| plans.strong_count() > 0);
        let same = |plans: &Arc<Plans>| {
            let pairs = || plans.collectors.iter().zip(collectors);
            plans.compat == compat
                && plans.collectors.len() == collectors.len()
                && pairs().all(|(a, b)| std::ptr::eq(*a, *b))
        };
        if let Some(plans) = known.iter().filter_map(Weak::upgrade).find(same) {
            return plans;
        }
        let plans = Arc::new(Plans {
            collectors: collectors.to_vec(),
            compat,
            statements: Mutex::default(),
            texts: Mutex::default(),
            forms: Mutex::default(),
        });
        known.push(Arc::downgrade(&plans));
        plans
    }

    /// The statement that a query has part in.
    pub(crate) fn statement<T>(
        &self,
        part: &'static T,
        major: u32,
        wanted: impl FnOnce() -> Wanted,
    ) -> Arc<Statement> {
        let mut known = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (std::ptr::from_ref(part).addr(), major);
        if let Some(statement) = known.get(&key) {
            return Arc::clone(statement);
        }
        let mut statement = Statement::new(&wanted(), &self.collectors, major, self.compat);
        if let Some(same) = known.values().find(|other| other.sql == statement.sql) {
            statement.sql = Arc::clone(&same.sql);
        }
        let statement = Arc::new(statement);
        known.insert(key, Arc::clone(&statement));
        statement
    }

    /// A statement for a major version.
    pub(crate) fn text(&self, of: &'static Read, major: u32, sql: fn(u32) -> String) -> Arc<str> {
        once(&self.texts, of, major, || sql(major).into())
    }

    /// What the rows of a query become.
    pub(crate) fn form(&self, of: &'static Columns, major: u32) -> Arc<Form> {
        once(&self.forms, of, major, || Arc::new(of.form(major, self.compat)))
    }
}

fn once<T: Clone, S>(known: &ByPlace<T>, of: &'static S, major: u32, make: impl FnOnce() -> T) -> T {
    let key = (std::ptr::from_ref(of).addr(), major);
    known.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert_with(make).clone()
}
