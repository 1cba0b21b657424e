"""The server that most people write themselves: FastAPI and joblib. Its model's path is in MODEL."""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL"])
app = FastAPI()


class Split(BaseModel):
    columns: list[str]
    data: list[list[float]]


class Request(BaseModel):
    dataframe_split: Split


@app.get("/ping")
def ping():
    return "pong"


@app.post("/invocations")
def predict(request: Request):
    frame = pd.DataFrame(request.dataframe_split.data, columns=request.dataframe_split.columns)
    return {"predictions": model.predict(frame).tolist()}
