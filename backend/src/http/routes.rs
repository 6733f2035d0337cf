//! All routes of the API, once: router, OpenAPI document, label values of the metrics and documented statuses come from
//! here. A route is a line: method, path, the refusals that its handler's signature does not tell, handler, summary.

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::describe::{self, Operation};
use crate::App;
use crate::{auth, deals, evaluations, loans, negotiations, vehicles, webhooks};

/// A method of a path.
#[derive(Clone, Debug)]
pub struct Route {
    /// Method.
    pub verb: Method,
    /// Template, which is also the label `handler`.
    pub path: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Statuses that the handler's signature does not tell.
    refusals: &'static [u16],
    /// Path of the handler in this crate.
    function: &'static str,
    operation: fn() -> Operation,
    handler: fn() -> MethodRouter<App>,
}

impl Route {
    /// What the handler's signature says.
    pub fn operation(&self) -> Operation {
        (self.operation)()
    }

    /// Its name among all: `deals.create`.
    pub fn name(&self) -> String {
        self.function.replace(' ', "").replace("::handlers", "").replace("::", ".")
    }

    /// Every status that the route answers with, in order.
    pub fn statuses(&self) -> Vec<u16> {
        let operation = self.operation();
        let mut statuses = [&[operation.success, 500, 503], self.refusals, &operation.refusals].concat();
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}

macro_rules! routes {
    ($( $verb:ident $path:literal [$($refusal:literal),*] $handler:path: $summary:literal; )+) => {
        /// The routes, by path.
        pub const ROUTES: &[Route] = &[
            $( Route {
                verb: Method::$verb,
                path: $path,
                summary: $summary,
                refusals: &[$($refusal),*],
                function: stringify!($handler),
                operation: || describe::operation($handler),
                handler: || on(MethodFilter::$verb, $handler),
            }, )+
        ];
    };
}

routes! {
    POST "/api/v1/auth/signup" [409] auth::handlers::signup: "Create an account";
    POST "/api/v1/auth/login" [401] auth::handlers::login: "Log in and get a session token";
    POST "/api/v1/auth/logout" [] auth::handlers::logout: "Revoke the session token";
    GET "/api/v1/auth/me" [] auth::handlers::me: "Show the own account";
    POST "/api/v1/auth/password-reset" [] auth::reset::request: "Ask for a token that sets a new password";
    POST "/api/v1/auth/password-reset/confirm" [] auth::reset::confirm: "Set a new password with a token";
    GET "/api/v1/users" [] auth::accounts::list: "List all accounts, newest first";
    PATCH "/api/v1/users/{id}" [409] auth::accounts::change: "Change role or state of an account";
    POST "/api/v1/deals" [409] deals::handlers::create: "Create a deal";
    GET "/api/v1/deals" [] deals::handlers::list: "List the own deals, newest first";
    GET "/api/v1/deals/{id}" [] deals::handlers::show: "Show an own deal";
    DELETE "/api/v1/deals/{id}" [] deals::handlers::remove: "Delete an own deal";
    PATCH "/api/v1/deals/{id}/status" [409] deals::handlers::change_status: "Move an own deal to another status";
    POST "/api/v1/negotiations" [404, 409] negotiations::handlers::create: "Begin to negotiate a deal";
    GET "/api/v1/negotiations" [] negotiations::handlers::list: "List the own negotiations, newest first";
    GET "/api/v1/negotiations/{id}" [] negotiations::handlers::show: "Show an own negotiation";
    GET "/api/v1/negotiations/{id}/messages" [] negotiations::handlers::messages: "List what was said, newest first";
    POST "/api/v1/negotiations/{id}/messages" [409] negotiations::handlers::ask: "Ask the agent";
    POST "/api/v1/negotiations/{id}/counter" [409] negotiations::handlers::counter: "Make another offer";
    POST "/api/v1/negotiations/{id}/reject" [409] negotiations::handlers::reject: "Refuse the dealer's offer";
    POST "/api/v1/negotiations/{id}/accept" [409] negotiations::handlers::accept: "Accept the dealer's offer";
    POST "/api/v1/negotiations/{id}/cancel" [409] negotiations::handlers::cancel: "Walk away";
    POST "/api/v1/evaluations" [404, 409] evaluations::handlers::create: "Begin to evaluate a deal";
    GET "/api/v1/evaluations" [] evaluations::handlers::list: "List the own evaluations, newest first";
    GET "/api/v1/evaluations/{id}" [] evaluations::handlers::show: "Show an own evaluation";
    POST "/api/v1/evaluations/{id}/answers" [409] evaluations::handlers::answer: "Answer what an evaluation asks";
    POST "/api/v1/webhooks" [409] webhooks::handlers::create: "Subscribe to alerts of vehicles";
    GET "/api/v1/webhooks" [] webhooks::handlers::list: "List the own webhooks, newest first";
    GET "/api/v1/webhooks/{id}" [] webhooks::handlers::show: "Show an own webhook";
    PATCH "/api/v1/webhooks/{id}" [] webhooks::handlers::switch: "Switch an own webhook off or on";
    DELETE "/api/v1/webhooks/{id}" [] webhooks::handlers::remove: "Forget an own webhook";
    GET "/api/v1/webhooks/{id}/deliveries" [] webhooks::handlers::deliveries: "List the alerts of an own webhook";
    POST "/api/v1/vehicles" [409] vehicles::listing::create: "Put a vehicle on offer";
    GET "/api/v1/vehicles" [404] vehicles::handlers::search: "Search the catalogue";
    GET "/api/v1/vehicles/{vin}" [] vehicles::handlers::show: "Show a vehicle";
    POST "/api/v1/favorites" [404, 409] vehicles::favorites::create: "Make a vehicle a favourite";
    GET "/api/v1/favorites" [] vehicles::favorites::list: "List the own favourites, newest first";
    DELETE "/api/v1/favorites/{vin}" [] vehicles::favorites::remove: "Forget a favourite";
    POST "/api/v1/saved-searches" [409] vehicles::saved_searches::create: "Save a search";
    GET "/api/v1/saved-searches" [] vehicles::saved_searches::list: "List the own saved searches, newest first";
    GET "/api/v1/saved-searches/{id}" [] vehicles::saved_searches::show: "Show an own saved search";
    DELETE "/api/v1/saved-searches/{id}" [] vehicles::saved_searches::remove: "Forget a saved search";
    POST "/api/v1/loans/calculate" [] loans::handlers::calculate: "Calculate a loan";
    GET "/api/v1/loans/offers" [] loans::handlers::offers: "Compare the offers of lenders, cheapest first";
    POST "/api/v1/loans/applications" [404, 409] loans::handlers::apply: "Apply for a loan";
    GET "/api/v1/loans/applications" [] loans::handlers::list: "List the own loan applications, newest first";
    GET "/api/v1/loans/applications/{id}" [] loans::handlers::show: "Show an own loan application";
    POST "/api/v1/loans/applications/{id}/income" [409] loans::handlers::complete: "Complete a pending loan application";
}

/// The router of [`ROUTES`].
pub fn router() -> Router<App> {
    ROUTES.iter().fold(Router::new(), |router, route| router.route(route.path, (route.handler)()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_a_path_is_listed_once_under_a_name_of_its_own() {
        let mut seen: Vec<_> = ROUTES.iter().map(|route| (route.path, route.verb.as_str())).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), ROUTES.len());
        let mut names: Vec<_> = ROUTES.iter().map(Route::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
        assert!(ROUTES.iter().all(|route| route.path.starts_with("/api/v1/")));
    }

    #[test]
    fn parameters_of_the_path_are_those_of_the_handler() {
        for route in ROUTES {
            let operation = route.operation();
            let taken: Vec<_> = operation.parameters.iter().filter(|p| p["in"] == "path").collect();
            let named: Vec<_> = route.path.split('/').filter_map(|part| part.strip_prefix('{')).collect();
            assert_eq!(taken.len(), named.len(), "{}", route.path);
            for (taken, named) in taken.iter().zip(named) {
                assert_eq!(format!("{}}}", taken["name"].as_str().unwrap()), named, "{}", route.path);
            }
        }
    }
}
