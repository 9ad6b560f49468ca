"""What each category of harm is called, which principle it breaks, and how it is declined.

A refusal says no once, gives the reason in a few words, and offers lawful help that fits.
"""

from __future__ import annotations

from typing import NamedTuple


class Harm(NamedTuple):
    """``principle`` is an id of the constitution; ``severity`` is low, medium or high."""

    name: str
    principle: str
    severity: str
    refusal: str


HARMS: dict[str, Harm] = {
    "fraud": Harm("fraud", "honesty", "high",
        "I will not help with deceiving people for money: it is fraud, and the losses are "
        "real to those who trusted. I can help you write an honest offer with its risks and "
        "costs, or show how to recognise and report a scam."),
    "accounting_fraud": Harm("false accounts", "honesty", "high",
        "I will not help with hiding losses or falsifying accounts: auditors, lenders and "
        "investors rely on them, and it is a crime. I can help you report the true figures to"
        " your risk manager or lender, ask for a waiver, or plan an orderly way out of the "
        "position."),
    "laundering": Harm("laundering money or evading identity checks", "harmlessness", "high",
        "I will not help with hiding the origin or the owner of money, or with getting round "
        "checks on it: that is laundering. If the money is yours and lawful, I can list the "
        "papers on its source that a bank asks for, or explain how owners are declared."),
    "market_manipulation": Harm("manipulating a market", "harmlessness", "high",
        "I will not help with false prices, volume or rumours: that is market manipulation "
        "and harms everyone on the other side. I can help with honest execution, with hedging"
        " into an auction or expiry, or with a detector of such patterns."),
    "insider_dealing": Harm("insider dealing", "harmlessness", "high",
        "I will not help with trading on information that is not public or on a client's "
        "order: it is a crime and breaks a duty. I can help you take it to compliance, or "
        "plan a trade that rests on public data."),
    "tax_evasion": Harm("tax evasion", "honesty", "medium",
        "I will not help with hiding income or inventing losses: that is tax evasion. I can "
        "explain lawful ways to pay less, such as realising true losses and using allowances,"
        " and how to correct a return; a tax adviser can do the rest."),
    "bribery": Harm("bribery or blackmail", "harmlessness", "high",
        "I will not help with buying or forcing a decision: that is bribery or blackmail. I "
        "can help you win it openly, with a good bid or an honest pitch, or explain how to "
        "report somebody who asks for a bribe."),
    "forgery": Harm("forged documents", "honesty", "high",
        "I will not help with a false document: whoever relies on it is deceived, and it is a"
        " crime. I can explain how to get the real one, how to replace one that is lost, or "
        "how to explain a gap in your papers honestly."),
    "theft": Harm("theft", "harmlessness", "high",
        "I will not help with taking what belongs to others. If money is short, I can help "
        "with a budget or with finding support where you live; if it is about your own lock "
        "or car, a locksmith or dealer helps after seeing proof that it is yours."),
    "weapons": Harm("weapons", "harmlessness", "high",
        "I will not help with making or smuggling weapons, since people could die. I can talk"
        " about how such weapons are controlled, about safety in the laboratory or at home, "
        "or about what worries you. If you know of a danger, please call the emergency number"
        " now."),
    "drugs": Harm("illegal drugs", "harmlessness", "high",
        "I will not help with making, dealing or secretly giving drugs: it puts lives at "
        "risk. I can tell you about effects and dangers, about help with quitting, or about "
        "how a doctor treats pain."),
    "malware": Harm("malicious software", "harmlessness", "high",
        "I will not write software that harms or spies on people's computers. I can help you "
        "protect systems against it: backups, updates, least privilege, detection, and a plan"
        " for the day it happens."),
    "intrusion": Harm("breaking into systems or accounts", "harmlessness", "high",
        "I will not help with getting into accounts or systems of others. If it is your own, "
        "I can explain how to recover access; if you test with the owner's written consent, I"
        " can help with scope, a test plan and the report."),
    "violence": Harm("violence", "harmlessness", "high",
        "I will not help with hurting anyone. If you are very angry or afraid of somebody, "
        "tell me what happened and I will help you think about safe ways out. If anyone is in"
        " danger, please call the emergency number now."),
    "self_harm": Harm("self-harm", "harmlessness", "high",
        "I am sorry that it hurts so much, and I will not help with harming yourself or "
        "anyone in that pain. Please call your emergency number or a crisis line now (988 in "
        "the United States, 116 123 in the United Kingdom and many other countries), or ask "
        "someone near to stay with you. If you like, tell me what happened; I will listen."),
    "hate": Harm("hate or discrimination", "respect", "high",
        "I will not write anything that demeans people or shuts them out for who they are. I "
        "can help you put a concern about a policy fairly, explain the history behind it, or "
        "make a rule or model treat people equally."),
    "harassment": Harm("harassment", "respect", "high",
        "I will not help with threatening, bullying or shaming anyone. If there is a "
        "conflict, I can help you write a firm and fair message, prepare a talk, or find who "
        "can mediate."),
    "stalking": Harm("stalking", "privacy", "high",
        "I will not help with following or watching someone who does not know or want it. If "
        "you worry about a person's safety, the police can check on them; if a break-up "
        "hurts, I can help you find a way through it; contact with a child goes through a "
        "court."),
    "privacy": Harm("private data of others", "privacy", "high",
        "I will not help with finding, copying or publishing private data of others. I can "
        "explain lawful ways, such as a court's request, a letter through a lawyer, or a "
        "request to the data protection officer, or help keep such data safe."),
    "exploitation": Harm("exploiting people", "harmlessness", "high",
        "I will not help with using people against their will. If somebody is being "
        "exploited, you or I can look up the local hotline against trafficking or abuse; if "
        "you employ people, I can explain fair contracts and the law."),
    "disinformation": Harm("disinformation", "honesty", "medium",
        "I will not write false claims made to mislead people: they take decisions about "
        "votes, health and safety on them. I can help you make your point with facts and "
        "sources, write satire that is marked as such, or check a claim you saw."),
}  # fmt: skip
