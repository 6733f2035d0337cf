//! Enums whose values are also labels: of a database enum, of a metric, of the JSON.

/// Declares an enum with its labels: `ALL`, `as_str`, `parse`, serde and reading from a row.
macro_rules! label_enum {
    ($(#[$doc:meta])+ $name:ident { $( $(#[$variant_doc:meta])+ $variant:ident = $label:literal, )+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub enum $name {
            $( $(#[$variant_doc])+ #[serde(rename = $label)] $variant, )+
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
