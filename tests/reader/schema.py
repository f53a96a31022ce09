#!/usr/bin/env python3
"""Compares commit records with docs/record.schema.json: schema.py SCHEMA RECORD...

Strictly: a member that the schema does not know is an error here, though readers pass over it. Needs python3-jsonschema.
"""
import json, sys
import jsonschema


def strict(schema):
    """The schema with every object closed."""
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "properties" in schema else {}
        return {key: strict(value) for key, value in schema.items()} | closed
    return [strict(value) for value in schema] if isinstance(schema, list) else schema


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(strict(schema))
    wrong = 0
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8") as file:
            for error in validator.iter_errors(json.load(file)):
                wrong += 1
                print(f"{path}: {error.json_path}: {error.message[:300]}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
