//! All routes of the API, once: the router, the label values of the metrics and the documented statuses come from here.

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post};

use crate::App;
use crate::{auth, deals, loans, vehicles};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Who has a session.
    User,
}

/// A method of a path.
#[derive(Clone, Debug)]
pub struct Route {
    /// Method.
    pub verb: Method,
    /// Template, which is also the label `handler`.
    pub path: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Whether it takes a JSON body.
    pub body: bool,
    /// Statuses of its own; [`Route::statuses`] adds what follows from the rest.
    pub answers: &'static [u16],
    handler: fn() -> MethodRouter<App>,
}

impl Route {
    /// Every status that the route answers with, in order.
    pub fn statuses(&self) -> Vec<u16> {
        let mut statuses = self.answers.to_vec();
        statuses.extend([500, 503]);
        if self.access == Access::User {
            statuses.push(401);
        }
        if self.body {
            statuses.extend([400, 413, 415, 422]);
        }
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}

/// The routes, by path.
pub const ROUTES: &[Route] = &[
    Route {
        verb: Method::POST,
        path: "/api/v1/auth/signup",
        summary: "Create an account",
        access: Access::Public,
        body: true,
        answers: &[201, 409],
        handler: || post(auth::handlers::signup),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/auth/login",
        summary: "Log in and get a session token",
        access: Access::Public,
        body: true,
        answers: &[200, 401],
        handler: || post(auth::handlers::login),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/auth/logout",
        summary: "Revoke the session token",
        access: Access::User,
        body: false,
        answers: &[204],
        handler: || post(auth::handlers::logout),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/auth/me",
        summary: "Show the own account",
        access: Access::User,
        body: false,
        answers: &[200],
        handler: || get(auth::handlers::me),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/deals",
        summary: "Create a deal",
        access: Access::User,
        body: true,
        answers: &[201, 409],
        handler: || post(deals::handlers::create),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/deals",
        summary: "List the own deals, newest first",
        access: Access::User,
        body: false,
        answers: &[200, 422],
        handler: || get(deals::handlers::list),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/deals/{id}",
        summary: "Show an own deal",
        access: Access::User,
        body: false,
        answers: &[200, 404],
        handler: || get(deals::handlers::show),
    },
    Route {
        verb: Method::DELETE,
        path: "/api/v1/deals/{id}",
        summary: "Delete an own deal",
        access: Access::User,
        body: false,
        answers: &[204, 404],
        handler: || delete(deals::handlers::remove),
    },
    Route {
        verb: Method::PATCH,
        path: "/api/v1/deals/{id}/status",
        summary: "Move an own deal to another status",
        access: Access::User,
        body: true,
        answers: &[200, 404, 409],
        handler: || patch(deals::handlers::change_status),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/vehicles",
        summary: "Search the catalogue",
        access: Access::Public,
        body: false,
        answers: &[200, 401, 404, 422],
        handler: || get(vehicles::handlers::search),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/vehicles/{vin}",
        summary: "Show a vehicle",
        access: Access::Public,
        body: false,
        answers: &[200, 404],
        handler: || get(vehicles::handlers::show),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/favorites",
        summary: "Make a vehicle a favourite",
        access: Access::User,
        body: true,
        answers: &[201, 404, 409],
        handler: || post(vehicles::favorites::create),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/favorites",
        summary: "List the own favourites, newest first",
        access: Access::User,
        body: false,
        answers: &[200, 422],
        handler: || get(vehicles::favorites::list),
    },
    Route {
        verb: Method::DELETE,
        path: "/api/v1/favorites/{vin}",
        summary: "Forget a favourite",
        access: Access::User,
        body: false,
        answers: &[204, 404],
        handler: || delete(vehicles::favorites::remove),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/saved-searches",
        summary: "Save a search",
        access: Access::User,
        body: true,
        answers: &[201, 409],
        handler: || post(vehicles::saved_searches::create),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/saved-searches",
        summary: "List the own saved searches, newest first",
        access: Access::User,
        body: false,
        answers: &[200, 422],
        handler: || get(vehicles::saved_searches::list),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/saved-searches/{id}",
        summary: "Show an own saved search",
        access: Access::User,
        body: false,
        answers: &[200, 404],
        handler: || get(vehicles::saved_searches::show),
    },
    Route {
        verb: Method::DELETE,
        path: "/api/v1/saved-searches/{id}",
        summary: "Forget a saved search",
        access: Access::User,
        body: false,
        answers: &[204, 404],
        handler: || delete(vehicles::saved_searches::remove),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/loans/calculate",
        summary: "Calculate a loan",
        access: Access::Public,
        body: true,
        answers: &[200],
        handler: || post(loans::handlers::calculate),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/loans/offers",
        summary: "Compare the offers of lenders, cheapest first",
        access: Access::Public,
        body: false,
        answers: &[200, 422],
        handler: || get(loans::handlers::offers),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/loans/applications",
        summary: "Apply for a loan",
        access: Access::User,
        body: true,
        answers: &[201, 404, 409],
        handler: || post(loans::handlers::apply),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/loans/applications",
        summary: "List the own loan applications, newest first",
        access: Access::User,
        body: false,
        answers: &[200, 422],
        handler: || get(loans::handlers::list),
    },
    Route {
        verb: Method::GET,
        path: "/api/v1/loans/applications/{id}",
        summary: "Show an own loan application",
        access: Access::User,
        body: false,
        answers: &[200, 404],
        handler: || get(loans::handlers::show),
    },
    Route {
        verb: Method::POST,
        path: "/api/v1/loans/applications/{id}/income",
        summary: "Complete a pending loan application",
        access: Access::User,
        body: true,
        answers: &[200, 404, 409],
        handler: || post(loans::handlers::complete),
    },
];

/// The router of [`ROUTES`].
pub fn router() -> Router<App> {
    ROUTES.iter().fold(Router::new(), |router, route| router.route(route.path, (route.handler)()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_a_path_is_listed_once() {
        let mut seen: Vec<_> = ROUTES.iter().map(|route| (route.path, route.verb.as_str())).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), ROUTES.len());
        assert!(ROUTES.iter().all(|route| route.path.starts_with("/api/v1/")));
    }
}
