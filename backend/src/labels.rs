//! Enums whose values are also labels: of a database enum, of a metric, of the JSON.

/// Declares an enum with its labels: `ALL`, `as_str`, `parse`, serde and reading from a row.
macro_rules! label_enum {
    ($(#[doc = $doc:literal])+ $name:ident { $( $(#[$variant_doc:meta])+ $variant:ident = $label:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[$variant_doc])+ #[serde(rename = $label)] $variant, )+
        }

        impl utoipa::ToSchema for $name {}

        /// By hand: the derived one takes no label from a macro, and would list the variants' names.
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(concat!($($doc),+).trim()))
                    .enum_values(Some([$( $label ),+]))
                    .into()
            }
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$( $name::$variant, )+];

            /// The label.
            pub const fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $label, )+ }
            }

            /// Reads a label that a row holds in `column`.
            ///
            /// # Errors
            /// [`crate::db::DbError::Failed`] if this program does not know it.
            pub fn read(column: &str, label: &str) -> Result<$name, crate::db::DbError> {
                $name::ALL.iter().copied().find(|value| value.as_str() == label).ok_or_else(|| {
                    crate::db::DbError::Failed {
                        what: format!("reading {column}"),
                        reason: format!("{label} is no value that this program knows"),
                    }
                })
            }
        }
    };
}

pub(crate) use label_enum;

#[cfg(test)]
mod tests {
    use crate::loans::CreditTier;
    use utoipa::PartialSchema;

    #[test]
    fn the_schema_lists_what_serde_reads() {
        let schema = serde_json::to_value(CreditTier::schema()).unwrap();
        let labels: Vec<CreditTier> = serde_json::from_value(schema["enum"].clone()).unwrap();
        assert_eq!(labels, CreditTier::ALL);
    }
}
