"""Load iris, drop incomplete rows, write a CSV."""

from pathlib import Path

from sklearn.datasets import load_iris


def main():
    iris = load_iris(as_frame=True)
    df = iris.frame.rename(columns={"target": "species"})
    df["species"] = df["species"].map(dict(enumerate(iris.target_names)))
    df = df.dropna().reset_index(drop=True)
    Path("data").mkdir(exist_ok=True)
    df.to_csv("data/iris.csv", index=False)


if __name__ == "__main__":
    main()
