-- Policies say who answers for an entry of a supplier. Nothing changes here: the number keeps servers out that would write policies without it.
SELECT 1;
