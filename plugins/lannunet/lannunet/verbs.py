"""The functions of the API."""

from lannunet_core import api

Model, Trained = api.Model, api.Trained
load, train, plan, evaluate, read_dataset = api.load, api.train, api.plan, api.evaluate, api.read_dataset
