-- A deal has at most one application that was not rejected.
CREATE UNIQUE INDEX loan_applications_live_deal_key ON loan_applications (deal_id) WHERE status <> 'rejected';
