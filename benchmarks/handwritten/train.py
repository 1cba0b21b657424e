"""Train a random forest on the CSV, log it to MLflow and register it."""

import json
from pathlib import Path

import joblib
import mlflow
import mlflow.sklearn
import pandas as pd
import yaml
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split


def main():
    params = yaml.safe_load(Path("params.yaml").read_text())["train"]
    df = pd.read_csv("data/iris.csv")
    x_train, x_test, y_train, y_test = train_test_split(
        df.drop(columns="species"),
        df["species"],
        test_size=params["test_size"],
        random_state=params["seed"],
        stratify=df["species"],
    )
    model = RandomForestClassifier(n_estimators=params["n_estimators"], random_state=params["seed"])
    model.fit(x_train, y_train)
    accuracy = accuracy_score(y_test, model.predict(x_test))

    mlflow.set_experiment("iris")
    with mlflow.start_run():
        mlflow.log_params(params)
        mlflow.log_metrics({"accuracy": accuracy})
        mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="cloudpickle",  # the default, skops, does not take a forest
            signature=infer_signature(x_train, model.predict(x_train)),
            registered_model_name="iris",
        )

    Path("models").mkdir(exist_ok=True)
    joblib.dump(model, "models/iris.joblib")
    Path("metrics.json").write_text(json.dumps({"accuracy": accuracy}))


if __name__ == "__main__":
    main()
