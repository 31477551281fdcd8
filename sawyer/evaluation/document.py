"""The JSON schema of ``report.json``: ``python -m sawyer.evaluation.document > docs/report.schema.json``."""

import json

from sawyer.evaluation.report import Report


def schema() -> str:
    """The schema as ``docs/report.schema.json`` holds it."""
    return json.dumps(Report.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
