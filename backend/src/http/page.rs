//! Cursor paging: a page of newest-first objects and an opaque pointer to the next one.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::hex;

/// Objects a page has unless the client says otherwise.
const DEFAULT: i64 = 20;
/// Objects a page has at most.
const MAX: i64 = 100;

/// Where the next page starts: below this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{16}$")]
pub struct Cursor(pub i64);

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0.to_be_bytes()))
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cursor, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode::<8>(&text)
            .map(|bytes| Cursor(i64::from_be_bytes(bytes)))
            .ok_or_else(|| serde::de::Error::custom("must be a next_cursor of an earlier page"))
    }
}

/// How many objects a client wants: 1 to 100, 20 if it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub i64);

impl ToSchema for Limit {}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        let limit = ObjectBuilder::new().schema_type(Type::Integer);
        limit.minimum(Some(1)).maximum(Some(MAX)).default(Some(DEFAULT.into())).into()
    }
}

impl Default for Limit {
    fn default() -> Limit {
        Limit(DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        let limit = i64::deserialize(deserializer)?;
        if (1..=MAX).contains(&limit) {
            Ok(Limit(limit))
        } else {
            Err(serde::de::Error::custom(format!("must be from 1 to {MAX}")))
        }
    }
}

/// Query of a list: which page of it.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

impl Window {
    /// The page of so many objects that begins at `cursor`, or the first one.
    pub fn new(limit: Limit, cursor: Option<Cursor>) -> Window {
        Window { limit, cursor }
    }

    /// The id below which it begins.
    pub fn below(&self) -> i64 {
        self.cursor.map_or(i64::MAX, |Cursor(id)| id)
    }

    /// Rows to ask for: the one too many only says that there are more.
    pub fn rows(&self) -> i64 {
        self.limit.0 + 1
    }

    /// The page that those rows make.
    pub fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> i64) -> Page<T> {
        let limit = usize::try_from(self.limit.0).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| Cursor(id(last)));
        Page { items, next_cursor }
    }
}

/// One page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// The objects, newest first.
    pub items: Vec<T>,
    /// Pass it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<Cursor>,
}

/// Named for what it holds: the derived name would be the same for all pages.
impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
        Cursor::schemas(schemas);
        schemas.push((T::name().into_owned(), T::schema()));
        schemas.push((Cursor::name().into_owned(), Cursor::schema()));
    }
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let cursor = OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::Null))
            .item(Ref::from_schema_name(Cursor::name()))
            .description(Some("Pass it as `cursor` to get the next page; null on the last one."));
        ObjectBuilder::new()
            .property("items", ArrayBuilder::new().items(Ref::from_schema_name(T::name())))
            .required("items")
            .property("next_cursor", cursor)
            .required("next_cursor")
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_the_trip(id: i64) {
            let text = serde_json::to_string(&Cursor(id)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), Cursor(id));
        }

        #[test]
        fn pages_show_everything_once(count in 0_i64..250, limit in 1_i64..=100) {
            let all: Vec<i64> = (1..=count).rev().collect();
            let mut seen: Vec<i64> = Vec::new();
            let mut window = Window::new(Limit(limit), None);
            loop {
                let fetched = all.iter().copied().filter(|id| *id < window.below())
                    .take(usize::try_from(window.rows()).unwrap()).collect::<Vec<_>>();
                let page = window.page(fetched, |id| *id);
                seen.extend(&page.items);
                if page.next_cursor.is_none() {
                    break;
                }
                window = Window::new(Limit(limit), page.next_cursor);
            }
            prop_assert_eq!(seen, all);
        }
    }
}
