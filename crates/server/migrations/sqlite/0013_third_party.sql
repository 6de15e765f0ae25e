-- Who answers for an entry of a supplier, and under which contract; both or neither.
ALTER TABLE entry_policies ADD COLUMN sponsor TEXT;
ALTER TABLE entry_policies ADD COLUMN contract TEXT;
