"""What a recipe takes on a device, from the shapes of its models alone: nothing is loaded, torch is not imported."""

from sawyer.plan.advice import Change, changes, fit
from sawyer.plan.configs import backbone_shape, shape_of
from sawyer.plan.device import Device, find_device, this_cpu, this_machine
from sawyer.plan.ledger import Item, Ledger, Moment
from sawyer.plan.plan import Plan, StagePlan, as_json, make_plan
from sawyer.plan.shape import Shape, read_shape

__all__ = [
    "Change",
    "Device",
    "Item",
    "Ledger",
    "Moment",
    "Plan",
    "Shape",
    "StagePlan",
    "as_json",
    "backbone_shape",
    "changes",
    "find_device",
    "fit",
    "make_plan",
    "read_shape",
    "shape_of",
    "this_cpu",
    "this_machine",
]
